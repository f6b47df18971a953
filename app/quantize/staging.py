"""An output directory that appears only when it is complete."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.core.errors import AppError


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A directory beside `out` to write into; it becomes `out` when the block ends without error.

    Otherwise it is removed. What a killed run left behind is removed by the next one, and no two
    runs write the same output: the directory is locked while it is written.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    partial.mkdir(exist_ok=True)
    descriptor = os.open(partial, os.O_RDONLY | os.O_DIRECTORY)
    try:
        lock(descriptor, out)
        clear(partial)
        try:
            yield partial
            publish(partial, out)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    finally:
        os.close(descriptor)


def lock(descriptor: int, out: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise AppError(f"Another run is writing {out}.") from error


def clear(directory: Path) -> None:
    for entry in directory.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def publish(partial: Path, out: Path) -> None:
    """Write everything to the disk, then rename: after a power cut `out` is whole or not there."""
    for path in partial.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)  # safetensors writes for its owner alone
        sync(path)
    sync(partial)
    try:
        partial.rename(out)
    except OSError as error:
        raise AppError(f"{out} could not be put in place: {error}.") from error
    sync(out.parent)


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
