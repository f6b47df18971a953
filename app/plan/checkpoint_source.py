"""From what a model is planned: a directory, the hub's cache, or the hub's headers over HTTP."""

import os
from pathlib import Path

from app.core.checkpoint import (
    CONFIG,
    INDEX,
    SINGLE_SHARD,
    Checkpoint,
    Directory,
    Source,
    parse_architecture,
    read_json,
    read_source,
)
from app.core.checkpoint_scheme import parse_scheme
from app.core.memory.shape import ModelShape, shape_of
from app.core.memory.tensors import expected_tensors
from app.quantize.hub import Repository


def read_shape(model: str, revision: str | None = None) -> ModelShape:
    """A local directory, with or without its safetensors, or a repository's name on the hub.

    Raises CheckpointError where neither can be read, or the model cannot be planned.
    """
    source = find_source(model, revision or "main")
    config = read_json(source, CONFIG)
    if has_weights(source):
        return shape_of(read_source(source), config)
    where = f"{source.where}/{CONFIG}"
    architecture, scheme = parse_architecture(config, where), parse_scheme(config, where)
    tensors = expected_tensors(architecture, scheme)
    return shape_of(Checkpoint(source.where, architecture, scheme, (), tensors), config)


def find_source(model: str, revision: str) -> Source:
    if Path(model).is_dir():
        return Directory(Path(model))
    cached = find_snapshot(model, revision)
    return Directory(cached) if cached else Repository(model, revision)


def has_weights(source: Source) -> bool:
    return any(source.size_bytes(name) is not None for name in (SINGLE_SHARD, INDEX))


def find_snapshot(model: str, revision: str) -> Path | None:
    """The snapshot that the hub's client has in its cache, where it has all of it."""
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    hub = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    folder = hub / f"models--{model.replace('/', '--')}"
    reference = folder / "refs" / revision
    commit = reference.read_text().strip() if reference.is_file() else revision
    snapshot = folder / "snapshots" / commit
    return snapshot if (snapshot / CONFIG).is_file() and has_weights(Directory(snapshot)) else None
