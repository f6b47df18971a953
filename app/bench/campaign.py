"""Several targets under several loads, in alternation: what the machine does meanwhile hits all."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TextIO

from app.bench.arrivals import Arrivals, ClosedLoop
from app.bench.generator import Run, measure
from app.bench.process_cpu import cpu_seconds
from app.bench.progress import Progress
from app.bench.statistics import Objectives, Summary, summarize
from app.bench.target import Target
from app.bench.workload import Workload, draw_workload


@dataclass(frozen=True)
class Load:
    name: str
    workload: Workload
    arrivals: Arrivals


@dataclass(frozen=True)
class Subject:
    """A target with its model's name, and the processes whose CPU time is charged to it."""

    target: Target
    model: str
    pids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Measurement:
    """`server_cpu_s` is None when no process was named."""

    target: str
    load: str
    repetition: int
    run: Run
    summary: Summary
    server_cpu_s: float | None

    @property
    def cpu_us_per_token(self) -> float | None:
        if self.server_cpu_s is None or not self.summary.num_output_tokens:
            return None
        return self.server_cpu_s / self.summary.num_output_tokens * 1e6

    @property
    def cpu_ms_per_request(self) -> float | None:
        if self.server_cpu_s is None:
            return None
        return self.server_cpu_s / self.summary.num_requests * 1e3


@dataclass(frozen=True)
class Campaign:
    subjects: Sequence[Subject]
    loads: Sequence[Load]
    repetitions: int = 1
    num_warm_up: int = 0
    objectives: Objectives | None = None

    def run(self, out: TextIO) -> list[Measurement]:
        for subject in self.subjects:
            self.warm_up(subject, out)
        return [
            self.measure(subject, load, repetition, out)
            for load in self.loads
            for repetition in range(self.repetitions)
            for subject in rotated(self.subjects, repetition)
        ]

    def warm_up(self, subject: Subject, out: TextIO) -> None:
        if self.num_warm_up:
            workload = draw_workload(self.num_warm_up, seed=-1)
            progress = Progress(f"warm-up {subject.target.name}", self.num_warm_up, out)
            measure(subject.target, subject.model, workload, ClosedLoop(self.num_warm_up), progress)

    def measure(self, subject: Subject, load: Load, repetition: int, out: TextIO) -> Measurement:
        name = subject.target.name
        progress = Progress(f"{load.name} {name}", len(load.workload.asks), out)
        before_s = cpu_seconds(subject.pids)
        workload = replace(load.workload, variant=f"{name} {load.name} {repetition}")
        run = measure(subject.target, subject.model, workload, load.arrivals, progress)
        used_s = cpu_seconds(subject.pids) - before_s if subject.pids else None
        summary = summarize(run.outcomes, self.objectives)
        return Measurement(name, load.name, repetition, run, summary, used_s)


def rotated(subjects: Sequence[Subject], by: int) -> Sequence[Subject]:
    """No target is always the one that runs after the same other one."""
    start = by % len(subjects)
    return [*subjects[start:], *subjects[:start]]


def median_of(
    measurements: Iterable[Measurement], figure: Callable[[Measurement], float | None]
) -> float | None:
    values = [value for each in measurements if (value := figure(each)) is not None]
    return statistics.median(values) if values else None
