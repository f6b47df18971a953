"""A score that was recorded on one machine, beside the same questions on another."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from app.bundled.scoring import Tally
from app.core.errors import AppError

TOTAL = "total"


class RecordError(AppError):
    """A record that cannot be read, or that is of other questions."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`is_equal` where the share now lies in the 95 % interval of the one that was recorded."""

    name: str
    recorded: Tally
    now: Tally

    @property
    def is_equal(self) -> bool:
        low, high = self.recorded.interval
        return low <= self.now.share <= high

    def __str__(self) -> str:
        low, high = self.recorded.interval
        sign = "within" if self.is_equal else "OUTSIDE"
        return (
            f"{self.name}: {self.now.share:.2%}, {sign} the recorded {self.recorded.share:.2%} "
            f"({low:.2%} to {high:.2%})"
        )


def write_record(path: Path, scores: Mapping[str, Mapping[str, Tally]]) -> None:
    """Of each model, by its name: questions and exact answers of each skill and in all."""
    values = {
        name: {skill: {"asked": each.asked, "exact": each.exact} for skill, each in tallies.items()}
        for name, tallies in scores.items()
    }
    path.write_text(json.dumps(values, indent=1) + "\n")


def read_record(path: Path) -> dict[str, Tally]:
    """Each model's tally over all skills."""
    try:
        values: dict[str, dict[str, dict[str, int]]] = json.loads(path.read_text(encoding="utf-8"))
        return {
            name: Tally(int(skills[TOTAL]["asked"]), int(skills[TOTAL]["exact"]))
            for name, skills in values.items()
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise RecordError(f"The record {path} cannot be read.") from error


def compare_with_record(path: Path, scores: Mapping[str, Mapping[str, Tally]]) -> Iterator[Verdict]:
    """Raises RecordError where the record lacks a model, or asked it another number of questions:
    the first questions of each skill are always the same."""
    recorded = read_record(path)
    for name, tallies in scores.items():
        if name not in recorded or recorded[name].asked != tallies[TOTAL].asked:
            raise RecordError(
                f"The record {path} has no {name} asked {tallies[TOTAL].asked} questions: give "
                f"--profile and --questions as they were recorded."
            )
        yield Verdict(name, recorded[name], tallies[TOTAL])
