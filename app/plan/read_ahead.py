"""Has the system read the weights while vLLM is imported and its processes start."""

import os
import threading
from pathlib import Path

from app.core.checkpoint import Directory, list_shards
from app.core.errors import AppError
from app.plan.checkpoint_source import find_source
from app.plan.machine import cpu_device

# Of the memory that is free: more would drive out what was read first before anybody uses it.
_MOST = 0.5
# The kernel takes no more at once than a device reads ahead, which is so much where nobody set it.
_STEP_BYTES = 128 * 1024


def read_ahead(model: str, revision: str | None) -> threading.Thread | None:
    """Ask for the files of weights, in a thread that ends when the system has taken the order: they
    are in the page cache when vLLM maps them. None where there is nothing to ask for: a model that
    is not on this machine, or one too large to stay in memory. What cannot be read is left to vLLM.
    """
    try:
        shards = find_shards(model, revision)
        if not 0 < sum(shard.stat().st_size for shard in shards) <= cpu_device().free_bytes * _MOST:
            return None
    except (AppError, OSError):
        return None
    thread = threading.Thread(target=ask_for, args=(shards,), name="read-ahead", daemon=True)
    thread.start()
    return thread


def find_shards(model: str, revision: str | None) -> list[Path]:
    source = find_source(model, revision or "main")
    if not isinstance(source, Directory):
        return []
    return [source.path / name for name in list_shards(source)]


def ask_for(shards: list[Path]) -> None:
    for shard in shards:
        try:
            descriptor = os.open(shard, os.O_RDONLY)
        except OSError:
            continue  # vLLM will say so
        try:
            for start in range(0, os.fstat(descriptor).st_size, _STEP_BYTES):
                os.posix_fadvise(descriptor, start, _STEP_BYTES, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(descriptor)
