"""A checkpoint as its config.json and safetensors headers describe it; no weights are loaded."""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from app.core.checkpoint_header import (
    PREFIX_BYTES,
    Tensor,
    header_length,
    parse_header,
    parse_json_object,
)
from app.core.checkpoint_scheme import Scheme, parse_scheme
from app.core.errors import CheckpointError

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
SINGLE_SHARD = "model.safetensors"
MAX_JSON_BYTES = 64 * 2**20  # an index of a million tensors
MAX_SHARDS = 10_000
MAX_LAYERS = 10_000
MAX_FILE_NAME_BYTES = 255  # Linux: a longer name is an error of the file system, not a missing file


class Source(Protocol):
    """Where a checkpoint's files are: a directory, or a repository read over HTTP."""

    @property
    def where(self) -> str:
        """Its name for people."""

    def size_bytes(self, name: str) -> int | None:
        """None where there is no such file."""

    def read(self, name: str, num_bytes: int, start: int = 0) -> bytes:
        """At most `num_bytes` from `start`; fewer at the end of the file."""


@dataclass(frozen=True, slots=True)
class Directory:
    path: Path

    @property
    def where(self) -> str:
        return str(self.path)

    def size_bytes(self, name: str) -> int | None:
        path = self.path / name
        return path.stat().st_size if path.is_file() else None

    def read(self, name: str, num_bytes: int, start: int = 0) -> bytes:
        try:
            with (self.path / name).open("rb") as file:
                file.seek(start)
                return file.read(num_bytes)
        except OSError as error:
            raise CheckpointError(f"{self.path / name} cannot be read: {error}.") from error


@dataclass(frozen=True, slots=True)
class Architecture:
    """What config.json says about the network; for a multimodal model, about its text part."""

    name: str
    model_type: str
    num_layers: int
    hidden_size: int
    intermediate_size: int | None
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    max_positions: int | None
    dtype: str  # "bfloat16", "float16", "float32"
    tied_embeddings: bool
    sliding_window: int | None
    num_experts: int
    rope_theta: float | None
    rope_scaling: str | None  # "llama3", "yarn", "linear", ...; None where positions are not scaled


@dataclass(frozen=True, slots=True)
class Checkpoint:
    where: str
    architecture: Architecture
    scheme: Scheme
    shards: tuple[str, ...]
    tensors: tuple[Tensor, ...]

    @property
    def num_bytes(self) -> int:
        return sum(tensor.num_bytes for tensor in self.tensors)


def read_checkpoint(directory: Path) -> Checkpoint:
    """Read a local directory. Raises CheckpointError, naming the file, for any damage."""
    return read_source(Directory(directory))


def read_source(
    source: Source, on_damage: Callable[[CheckpointError], None] | None = None
) -> Checkpoint:
    """Read a checkpoint from wherever it is.

    `on_damage` hears of every shard that is missing or damaged, and reading goes on with the
    others; without it the first one is raised.
    """
    config = read_json(source, CONFIG)
    shards = list_shards(source)
    tensors: dict[str, Tensor] = {}
    for shard, expected in shards.items():
        try:
            merge(tensors, read_shard(source, shard), expected)
        except CheckpointError as damage:
            if on_damage is None:
                raise
            on_damage(damage)
    return Checkpoint(
        where=source.where,
        architecture=parse_architecture(config, f"{source.where}/{CONFIG}"),
        scheme=parse_scheme(config, f"{source.where}/{CONFIG}"),
        shards=tuple(shards),
        tensors=tuple(tensors.values()),
    )


def read_json(source: Source, name: str) -> dict[str, Any]:
    size = source.size_bytes(name)
    if size is None:
        raise CheckpointError(f"{source.where} has no {name}, so it is no checkpoint.")
    if size > MAX_JSON_BYTES:
        raise CheckpointError(f"{source.where}/{name} has {size} bytes, too many to be read.")
    return parse_json_object(source.read(name, size), f"{source.where}/{name}")


def list_shards(source: Source) -> dict[str, set[str] | None]:
    """Each shard, and the tensors that the index puts in it; None where there is no index."""
    if source.size_bytes(INDEX) is None:
        return {SINGLE_SHARD: None}
    placed = read_json(source, INDEX).get("weight_map")
    if not isinstance(placed, dict) or not placed:
        raise CheckpointError(f"{source.where}/{INDEX} has no weight_map.")
    shards: dict[str, set[str]] = {}
    for tensor, shard in sorted(placed.items(), key=lambda pair: str(pair[1])):
        if not is_shard_name(shard):
            raise CheckpointError(f"{source.where}/{INDEX} names {str(shard)[:40]!r} as a shard.")
        shards.setdefault(shard, set()).add(tensor)
    if len(shards) > MAX_SHARDS:
        raise CheckpointError(f"{source.where}/{INDEX} names {len(shards)} shards, too many.")
    return {**shards}


def is_shard_name(name: Any) -> bool:
    """A plain file name: an index must not lead out of its directory."""
    return (
        isinstance(name, str)
        and name.isprintable()
        and name.endswith(".safetensors")
        and len(name.encode()) <= MAX_FILE_NAME_BYTES
        and not set(name) & set("/\\")
    )


def read_shard(source: Source, shard: str) -> tuple[Tensor, ...]:
    file_bytes = source.size_bytes(shard)
    if file_bytes is None:
        raise CheckpointError(f"{shard} is missing from {source.where}.")
    length = header_length(source.read(shard, PREFIX_BYTES), file_bytes, shard)
    return parse_header(source.read(shard, length, PREFIX_BYTES), file_bytes, shard)


def merge(tensors: dict[str, Tensor], found: tuple[Tensor, ...], expected: set[str] | None) -> None:
    """Add a shard's tensors to those of the shards before it, and hold them against the index."""
    for tensor in found:
        if tensor.name in tensors:
            raise CheckpointError(
                f"{tensor.name} is both in {tensors[tensor.name].shard} and in {tensor.shard}."
            )
        tensors[tensor.name] = tensor
    difference = {tensor.name for tensor in found} ^ (expected or {t.name for t in found})
    if difference:
        raise CheckpointError(
            f"The index and the shards disagree about where {min(difference)[:80]} is."
        )


def parse_architecture(config: dict[str, Any], where: str) -> Architecture:
    text = config.get("text_config")
    facts = Facts({**config, **text} if isinstance(text, dict) else config, where)
    num_heads = facts.count("num_attention_heads")
    hidden_size = facts.count("hidden_size")
    names = config.get("architectures")
    rope = facts.mapping("rope_parameters") or facts.mapping("rope_scaling")
    theta = rope.get("rope_theta", facts.values.get("rope_theta"))
    scaling = rope.get("rope_type", rope.get("type"))
    return Architecture(
        name=facts.name(names[0]) if isinstance(names, list) and names else "unknown",
        model_type=facts.name(facts.values.get("model_type", "unknown")),
        num_layers=facts.count("num_hidden_layers", MAX_LAYERS),
        hidden_size=hidden_size,
        intermediate_size=facts.count_or("intermediate_size", None),
        num_heads=num_heads,
        num_kv_heads=facts.count_or("num_key_value_heads", num_heads) or num_heads,
        head_dim=facts.count_or("head_dim", None) or facts.share("hidden_size", num_heads),
        vocab_size=facts.count("vocab_size"),
        max_positions=facts.count_or("max_position_embeddings", None),
        dtype=str(facts.values.get("dtype") or facts.values.get("torch_dtype") or "float32"),
        tied_embeddings=bool(facts.values.get("tie_word_embeddings", False)),
        sliding_window=facts.count_or("sliding_window", None),
        num_experts=facts.first_count("num_local_experts", "num_experts", "n_routed_experts"),
        rope_theta=facts.real("rope_theta", theta),
        rope_scaling=str(scaling) if scaling not in (None, "default") else None,
    )


@dataclass(frozen=True, slots=True)
class Facts:
    """config.json, asked for numbers; a wrong one is a CheckpointError that names the key."""

    values: dict[str, Any]
    where: str

    def count(self, key: str, most: int = 2**31 - 1) -> int:
        value = self.values.get(key)
        if type(value) is not int or not 0 < value <= most:
            raise CheckpointError(f"{self.where} has no usable {key}: {str(value)[:40]}.")
        return value

    def name(self, value: Any) -> str:
        """Fit for a terminal: a stranger's text may hold control characters."""
        return "".join(char for char in str(value)[:100] if char.isprintable())

    def share(self, key: str, parts: int) -> int:
        share = self.count(key) // parts
        if not share:
            raise CheckpointError(f"{self.where}: {key} is too small for {parts} heads.")
        return share

    def real(self, key: str, value: Any) -> float | None:
        try:
            return float(value) if isinstance(value, int | float) else None
        except OverflowError as error:
            raise CheckpointError(f"{self.where} has no usable {key}: too large.") from error

    def count_or(self, key: str, default: int | None) -> int | None:
        return default if self.values.get(key) is None else self.count(key)

    def first_count(self, *keys: str) -> int:
        return next((self.count(key) for key in keys if self.values.get(key)), 0)

    def mapping(self, key: str) -> dict[str, Any]:
        value = self.values.get(key)
        return value if isinstance(value, dict) else {}


def digest_shards(directory: Path) -> dict[str, str]:
    """SHA-256 of config.json and of every shard, by name. Reads every byte."""
    source = Directory(directory)
    names = [CONFIG, *list_shards(source)]
    for name in names:
        if source.size_bytes(name) is None:
            raise CheckpointError(f"{name} is missing from {directory}.")
    with ThreadPoolExecutor(max_workers=8) as pool:  # hashlib lets go of the GIL
        digests = pool.map(digest_file, (directory / name for name in names))
        return dict(zip(names, digests, strict=True))


def digest_checkpoint(directory: Path) -> str:
    """One digest that changes with any bit of config.json or of a shard, or with a shard's name."""
    lines = sorted(f"{digest}  {name}\n" for name, digest in digest_shards(directory).items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def digest_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}.") from error
