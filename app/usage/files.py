"""The files of a chain: REPLICA-000001.jsonl and so on, in one directory for all replicas."""

import re
from collections.abc import Iterator
from pathlib import Path

_FILE = re.compile(r"(?P<replica>[A-Za-z0-9][A-Za-z0-9_.-]{0,252})-(?P<number>\d{6})\.jsonl")
_BLOCK_BYTES = 65_536


def file_of(directory: Path, replica: str, number: int) -> Path:
    return directory / f"{replica}-{number:06}.jsonl"


def number_of(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


def find_chains(directory: Path) -> dict[str, list[Path]]:
    """The files of each replica, in the order they were written."""
    chains: dict[str, list[Path]] = {}
    for path in sorted(directory.iterdir()):
        if found := _FILE.fullmatch(path.name):
            chains.setdefault(found["replica"], []).append(path)
    return chains


def read_lines(path: Path) -> Iterator[tuple[bytes, bool]]:
    """Each line without its newline, and whether it has one: the last may be half written."""
    with path.open("rb") as file:
        for line in file:
            yield line.rstrip(b"\n"), line.endswith(b"\n")


def find_last_line(path: Path) -> tuple[bytes, int]:
    """The last whole line (empty if there is none), and the size of the file up to its end."""
    with path.open("rb") as file:
        position = file.seek(0, 2)
        tail = b""
        while position and tail.count(b"\n") < 2:
            step = min(_BLOCK_BYTES, position)
            position = file.seek(position - step)
            tail = file.read(step) + tail
    whole = tail[: tail.rfind(b"\n") + 1]
    return whole.rstrip(b"\n").rpartition(b"\n")[2], position + len(whole)
