"""The charts of a campaign."""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from app.bench.campaign import Measurement
from app.bench.chart import line_chart
from app.bench.figures import figures_of, grouped
from app.bench.outcome import Outcome

MAX_POINTS = 200

CURVES: dict[str, Callable[[Outcome], float | None]] = {
    "latency": lambda outcome: outcome.latency_s,
    "time to first token": lambda outcome: outcome.first_token_s,
    "time per token": lambda outcome: outcome.per_token_s,
}


def write_plots(folder: Path, measurements: Sequence[Measurement]) -> list[Path]:
    """The files written: a distribution of each latency per load, and throughput against latency
    over the loads."""
    folder.mkdir(parents=True, exist_ok=True)
    charts = {**distribution_charts(measurements), **throughput_chart(measurements)}
    paths = []
    for name, svg in charts.items():
        path = folder / f"{re.sub('[^a-z0-9]+', '-', name.lower())}.svg"
        path.write_text(svg)
        paths.append(path)
    return paths


def distribution_charts(measurements: Sequence[Measurement]) -> dict[str, str]:
    charts = {}
    for load in dict.fromkeys(each.load for each in measurements):
        for name, value in CURVES.items():
            series = {
                target: cumulative(
                    value(outcome)
                    for each in group
                    for outcome in each.run.outcomes
                    if outcome.error is None
                )
                for (at, target), group in grouped(measurements).items()
                if at == load
            }
            if any(series.values()):
                title = f"{name} under {load}"
                charts[title] = line_chart(title, "milliseconds", "share of requests", series)
    return charts


def cumulative(values: Iterable[float | None]) -> list[tuple[float, float]]:
    """Milliseconds and the share of values that are not above them."""
    ordered = sorted(value * 1e3 for value in values if value is not None)
    ranks = range(1, len(ordered) + 1)
    points = [(value, rank / len(ordered)) for value, rank in zip(ordered, ranks, strict=True)]
    step = max(1, len(points) // MAX_POINTS)
    return points[:-1:step] + points[-1:]


def throughput_chart(measurements: Sequence[Measurement]) -> dict[str, str]:
    series: dict[str, list[tuple[float, float]]] = {}
    for (_, target), group in grouped(measurements).items():
        figures = figures_of(group)
        tokens_per_s, latency_ms = figures["output_tokens_per_s"], figures["latency_p50_ms"]
        if tokens_per_s is not None and latency_ms is not None:
            series.setdefault(target, []).append((tokens_per_s, latency_ms))
    if all(len(points) < 2 for points in series.values()):
        return {}
    title = "throughput against latency"
    axes = ("output tokens per second", "median latency, milliseconds")
    return {title: line_chart(title, *axes, series, marked=True)}
