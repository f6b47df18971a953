"""Reads chains of usage records and says where one is broken."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.core.usage import GENESIS, Head, fault_between, hash_of, parse_line
from app.usage.files import read_lines


@dataclass
class Chain:
    """A chain as it is read: iterate over its records first, then look at the rest.

    `start`: the hash after which its files begin; GENESIS unless older files were archived.
    """

    replica: str
    files: Sequence[Path]
    start: str = GENESIS
    faults: list[str] = field(default_factory=list)
    num_records: int = 0
    has_half_line: bool = False
    head: Head = field(default_factory=Head)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self.head = Head(0, self.start)
        for path in self.files:
            for number, (line, is_whole) in enumerate(read_lines(path), 1):
                if not is_whole:
                    self._note_half_line(path, number)
                    continue
                fields = self._take(line, f"{path.name} line {number}")
                if fields is not None:
                    yield fields

    def _note_half_line(self, path: Path, number: int) -> None:
        if path == self.files[-1]:
            self.has_half_line = True
        else:
            self.faults.append(f"{path.name} line {number}: half a line")

    def _take(self, line: bytes, place: str) -> dict[str, Any] | None:
        try:
            fields = parse_line(line)
        except ValueError:
            self.faults.append(f"{place}: not a usage record")
            return None
        if self._is_archived_before(fields):
            self.head = Head(fields["number"] - 1, self.start)
        if fault := fault_between(self.head, fields):
            self.faults.append(f"{place}: {fault}")
        self.head = Head(fields["number"], hash_of(line))
        self.num_records += 1
        return fields

    def _is_archived_before(self, fields: dict[str, Any]) -> bool:
        """Whether this is the first record here, and follows the archived head it was told of."""
        is_told = self.start != GENESIS and self.num_records == 0
        return is_told and fields.get("previous") == self.start

    def read(self) -> "Chain":
        """Itself, read to the end."""
        for _ in self:
            pass
        return self
