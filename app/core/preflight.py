"""What can be refused before anything is loaded: a model that is not there, or not what it
should be."""

import re
from pathlib import Path

from app.core.checkpoint import read_checkpoint
from app.core.checkpoint_scheme import Scheme
from app.core.errors import SchemeError, SettingsError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def check_model(path: str, wanted_scheme: str | None) -> None:
    """Look at a local model's headers. A hub model is looked at when its config is fetched.

    Raises SettingsError where `path` is neither a directory nor a hub id, CheckpointError for a
    damaged checkpoint, SchemeError for another scheme than wanted.
    """
    if Path(path).is_dir():
        checkpoint = read_checkpoint(Path(path))
        refuse_other_checkpoint(checkpoint.scheme, wanted_scheme, path)
    elif not _HUB_ID.fullmatch(path):
        raise SettingsError(
            f"model.path (MODEL_DIR): there is no directory {path}, and it is no model id of a hub."
        )


def is_pinned(path: str, revision: str | None) -> bool:
    """Whether the same model is loaded at every start: a directory, or a commit of a hub."""
    return Path(path).is_dir() or bool(re.fullmatch(r"[0-9a-f]{40}", revision or ""))


def refuse_other_checkpoint(scheme: Scheme, wanted: str | None, where: str) -> None:
    """Raises SchemeError unless the checkpoint's quantization_config is `wanted` (None: any)."""
    if wanted is not None and scheme.name != wanted:
        raise SchemeError(
            f"model.scheme is {wanted}, but the checkpoint {where} is {scheme.name}; choose "
            f"another checkpoint, or set model.allow_unquantized to serve it as it is."
        )
