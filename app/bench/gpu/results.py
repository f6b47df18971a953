"""Results of `bench-gpu`: a JSON object on each line, written as soon as it is there."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from app.bench.gpu.offline_engine import Case
from app.core.errors import AppError
from app.core.llama_shape import SHAPES
from app.core.roofline import Ceilings, Served, Work

Runs = list[dict[str, float]]
Found = tuple[Case, Runs]


class ResultsError(AppError):
    """A file of results that cannot be read."""


@dataclass(frozen=True, slots=True)
class Journal:
    path: Path

    def add(self, kind: str, **values: Any) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        date = datetime.now(UTC).isoformat(timespec="seconds")
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"kind": kind, "date": date, **values}) + "\n")


def read_journal(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]
    except (OSError, ValueError) as error:
        raise ResultsError(f"The results {path} cannot be read.") from error


@dataclass(frozen=True)
class Measured:
    """One mode, and the runs of each case."""

    name: str
    served: Served
    loaded: dict[str, Any]
    runs: dict[Case, Runs]

    def decode(self, num_seqs: int) -> Found | None:
        return self._first(lambda case: case.num_seqs == num_seqs and not case.is_prefill)

    def prefill(self, length: int) -> Found | None:
        return self._first(lambda case: case.prompt_tokens == length and case.is_prefill)

    def _first(self, is_wanted: Callable[[Case], bool]) -> Found | None:
        return next((pair for pair in self.runs.items() if is_wanted(pair[0])), None)


def middle(runs: Runs, name: str) -> float | None:
    """The median over the runs; None where a run was too short to tell."""
    values = [run[name] for run in runs if name in run]
    return median(values) if values else None


def decode_share(mode: Measured, case: Case, ceilings: Ceilings | None) -> float | None:
    """Of the least time that a step could take, at the context of the middle of the answers."""
    context = case.prompt_tokens + case.output_tokens // 2
    work = mode.served.decode_step(case.num_seqs, context)
    return share(work, ceilings, middle(mode.runs[case], "step_s"))


def prefill_share(mode: Measured, case: Case, ceilings: Ceilings | None) -> float | None:
    work = mode.served.prefill(case.num_seqs, case.prompt_tokens, mode.loaded["step_tokens"])
    return share(work, ceilings, middle(mode.runs[case], "wall_s"))


def share(work: Work, ceilings: Ceilings | None, took_s: float | None) -> float | None:
    floor_s = work.floor_s(ceilings) if ceilings else None
    return None if floor_s is None or took_s is None else floor_s / took_s


def ceilings_in(lines: list[dict[str, Any]]) -> Ceilings | None:
    """The newest."""
    for line in reversed(lines):
        if line["kind"] == "ceilings":
            return Ceilings(line["bytes_per_s"], line["operations_per_s"])
    return None


def modes_in(lines: list[dict[str, Any]]) -> Iterator[Measured]:
    """By name, in the order of their first appearance; a later start of a mode replaces what an
    earlier one measured, case by case."""
    found: dict[str, Measured] = {}
    for line in lines:
        name = str(line.get("mode"))
        if line["kind"] == "loaded":
            served = Served(SHAPES[line["shape"]], line["weights"], line["kv_value_bytes"])
            runs = found[name].runs if name in found else {}
            found[name] = Measured(name, served, line, runs)
        elif line["kind"] == "case":
            found[name].runs[Case(**line["case"])] = line["runs"]
    yield from found.values()
