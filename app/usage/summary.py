"""Sums of usage records, as a table or as CSV."""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

GROUPS = ("tenant", "key", "model", "day")
COLUMNS = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens")


@dataclass
class Sums:
    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    def add(self, record: Mapping[str, Any]) -> None:
        self.requests += 1
        self.prompt_tokens += record["prompt_tokens"]
        self.cached_tokens += record["cached_tokens"]
        self.completion_tokens += record["completion_tokens"]

    def row(self) -> list[str]:
        return [str(getattr(self, column)) for column in COLUMNS]


def group_of(record: Mapping[str, Any], by: str) -> str:
    """A day is a day in UTC."""
    return str(record["time"])[:10] if by == "day" else str(record[by])


def is_between(record: Mapping[str, Any], since: str | None, until: str | None) -> bool:
    """`since` inclusive, `until` exclusive: days in UTC as YYYY-MM-DD; None: open."""
    day = group_of(record, "day")
    return (not since or day >= since) and (not until or day < until)


class Summary:
    """Sums by one or several groups."""

    def __init__(self, by: Iterable[str]) -> None:
        self.by = tuple(by)
        self._sums: dict[tuple[str, ...], Sums] = {}

    def add(self, record: Mapping[str, Any]) -> None:
        group = tuple(group_of(record, by) for by in self.by)
        self._sums.setdefault(group, Sums()).add(record)

    def rows(self) -> list[list[str]]:
        """Header first; the rest in the groups' order."""
        rows = [[*group, *sums.row()] for group, sums in sorted(self._sums.items())]
        return [[*self.by, *COLUMNS], *rows]

    def as_csv(self) -> str:
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows(self.rows())
        return out.getvalue()

    def as_table(self) -> str:
        rows = self.rows()
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        num_groups = len(self.by)
        lines = []
        for row in rows:
            names = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            numbers = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
            lines.append("  ".join([*names[:num_groups], *numbers[num_groups:]]).rstrip())
        return "\n".join(lines) + "\n"
