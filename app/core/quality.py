"""The gate: a checkpoint is served only with a report that proves how much of the original it kept.

`python -m app evaluate` writes the report beside the checkpoint; what it proves is bound to the
digest of the shards, so that a report cannot be carried over to other weights.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.core.checkpoint import Directory, digest_checkpoint, read_checkpoint, read_json
from app.core.checkpoint_problems import Severity, find_problems
from app.core.errors import CheckpointError, StartError

FILE = "quality.json"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Recovery:
    """The candidate's accuracy in percent of the baseline's, with its 95 % interval."""

    percent: float
    low: float
    high: float

    def as_json(self) -> dict[str, Any]:
        return {"recovery_percent": self.percent, "interval_95": [self.low, self.high]}

    def __str__(self) -> str:
        return f"{self.percent:.2f} % ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True, slots=True)
class Quality:
    digest: str
    recovery: Recovery


def read_quality(directory: Path) -> Quality | None:
    """The report beside a checkpoint; None where there is none. Raises CheckpointError where it is
    malformed."""
    source = Directory(directory)
    if source.size_bytes(FILE) is None:
        return None
    report = read_json(source, FILE)
    where = f"{directory}/{FILE}"
    if report.get("version") != VERSION:
        raise CheckpointError(f"{where} is not a report of this version: evaluate again.")
    try:
        recovery = report["recovery"]
        low, high = recovery["interval"]
        numbers = [number(recovery["percent"]), number(low), number(high)]
        return Quality(str(report["candidate"]["digest"]), Recovery(*numbers))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{where} is malformed: evaluate again.") from error


def number(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < float("inf"):
        raise ValueError
    return float(value)


def prove(model: str, min_recovery: float | None) -> Recovery | None:
    """What is proved of the model that is about to be served; StartError where that is too little.

    Hashes the checkpoint, unless nothing is asked and there is no report. A report that cannot be
    read proves nothing, which only matters where something is asked.
    """
    directory = Path(model)
    if min_recovery is None:
        try:
            quality = read_quality(directory)
            return find_recovery(directory, digest_checkpoint(directory)) if quality else None
        except CheckpointError:
            return None
    if not directory.is_dir():
        raise StartError(
            f"quality.min_recovery is {min_recovery:g} %, and {model} is no local directory: only "
            "a local checkpoint can be proved."
        )
    digest = digest_checkpoint(directory)
    refuse_unproved(directory, digest, min_recovery)
    refuse_damaged(directory)
    return find_recovery(directory, digest)


def find_recovery(directory: Path, digest: str) -> Recovery | None:
    """What is proved of the checkpoint with this digest; None where nothing is."""
    quality = read_quality(directory)
    return quality.recovery if quality and quality.digest == digest else None


def refuse_unproved(directory: Path, digest: str, min_recovery: float) -> None:
    """Raises StartError unless a report proves `min_recovery` percent for just this checkpoint."""
    remedy = f"run `python -m app evaluate --baseline MODEL --candidate {directory}`"
    quality = read_quality(directory)
    if quality is None:
        raise StartError(
            f"quality.min_recovery is {min_recovery:g} %, and {directory} has no {FILE}: {remedy}."
        )
    if quality.digest != digest:
        raise StartError(
            f"{directory}/{FILE} belongs to another checkpoint (its digest begins with "
            f"{quality.digest[:12]}, this one's with {digest[:12]}): {remedy}."
        )
    if quality.recovery.percent < min_recovery:
        raise StartError(
            f"{directory} recovers {quality.recovery}, less than quality.min_recovery, "
            f"{min_recovery:g} %."
        )


def refuse_damaged(directory: Path) -> None:
    """Raises StartError for what `inspect` calls an error: such a checkpoint may have answered the
    questions well (a quantized output layer can), and is still not what was to be made."""
    for problem in find_problems(read_checkpoint(directory)):
        if problem.severity is Severity.ERROR:
            raise StartError(
                f"quality.min_recovery is set, and {directory} is damaged: {problem.sentence} See "
                f"`python -m app inspect {directory}`."
            )
