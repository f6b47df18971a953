"""The engine client alone, in a process without HTTP, as a floor for every server around it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from app.bench.comparison import with_ratio
from app.bench.table import table_row
from app.core.errors import AppError
from app.core.report_line import find_report

MODULE = "app.engine.in_process_floor"
TIMEOUT_S = 600


class FloorError(AppError):
    """The floor could not be measured; the sentence names the log."""


def measure_floor(
    model: Path,
    loads: Mapping[str, str],
    repetitions: int,
    environment: Mapping[str, str],
    log: Path,
) -> dict[str, float]:
    """CPU microseconds per token for each load, given as STREAMSxTOKENS by its name."""
    sizes = (word for size in loads.values() for word in ("--load", size))
    command = [sys.executable, "-m", MODULE, "--model", str(model), "--repeat", str(repetitions)]
    with log.open("w") as errors:
        done = subprocess.run(
            [*command, *sizes],
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    found = find_report(done.stdout)
    if done.returncode or found is None:
        raise FloorError(f"The engine alone did not run; its log is {log}.")
    return {name: float(found[size]) for name, size in loads.items()}


def floor_lines(floors: Mapping[str, float], base: Mapping[str, float | None]) -> list[str]:
    """A table: the floor for each load, and its ratio to `base`, the stock server's cost."""
    if not floors:
        return []
    return [
        "The engine's client alone, in a process without HTTP:",
        "",
        table_row("load", "CPU µs/token"),
        table_row("---", "---"),
        *(table_row(load, with_ratio(floor, base.get(load))) for load, floor in floors.items()),
    ]
