"""A campaign's measurements as JSON."""

import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.bench.campaign import Measurement
from app.bench.figures import figures_of, grouped

CPU_INFO = Path("/proc/cpuinfo")


def machine() -> dict[str, Any]:
    return {
        "cpu": cpu_name(),
        "num_cpus": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def today_here() -> str:
    """The date, and what the figures were measured on: the beginning of a section's first line."""
    about = machine()
    return f"{datetime.now(UTC):%Y-%m-%d}, {about['cpu']}, {about['num_cpus']} CPUs"


def cpu_name() -> str:
    for line in CPU_INFO.read_text().splitlines() if CPU_INFO.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def report(measurements: Sequence[Measurement]) -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "medians": [
            {"load": load, "target": target, **figures_of(group)}
            for (load, target), group in grouped(measurements).items()
        ],
        "measurements": [
            {
                "load": each.load,
                "target": each.target,
                "repetition": each.repetition,
                "errors": each.summary.errors,
                "generator_was_limit": each.run.generator.was_limit,
                **figures_of([each]),
            }
            for each in measurements
        ],
    }


def write_report(path: Path, measurements: Sequence[Measurement]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report(measurements), indent=1) + "\n")
