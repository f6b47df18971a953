"""Measurements as text: a few lines for one, a table for several."""

from collections.abc import Sequence

from app.bench.campaign import Measurement
from app.bench.figures import figures_of, grouped
from app.bench.statistics import QUANTILES, Distribution, Summary

COLUMNS = {
    "requests/s": "requests_per_s",
    "good/s": "good_requests_per_s",
    "tokens/s": "output_tokens_per_s",
    "first token p50": "first_token_p50_ms",
    "p99": "first_token_p99_ms",
    "per token p50": "per_token_p50_ms",
    "latency p50": "latency_p50_ms",
    "p99 ": "latency_p99_ms",
    "CPU us/token": "server_cpu_us_per_token",
    "failed": "failed_requests",
}


def summary_lines(summary: Summary) -> list[str]:
    lines = [
        f"requests       {summary.num_requests}, {summary.num_failed} failed, "
        f"{summary.requests_per_s:.1f} per second",
        f"output tokens  {summary.num_output_tokens}, {summary.tokens_per_s:.1f} per second",
        distribution_line("latency", summary.latency_s),
        distribution_line("first token", summary.first_token_s),
        distribution_line("per token", summary.per_token_s),
        distribution_line("between chunks", summary.gap_s),
    ]
    if summary.good_per_s is not None:
        lines.append(f"good requests  {summary.good_per_s:.1f} per second")
    return lines


def distribution_line(name: str, values: Distribution | None) -> str:
    if values is None:
        return f"{name:<14} not measured"
    figures = ", ".join(f"p{q * 100:.0f} {values.quantiles[q] * 1000:.1f}" for q in QUANTILES)
    return f"{name:<14} {figures} ms"


def measurement_table(measurements: Sequence[Measurement]) -> list[str]:
    """Medians over repetitions, as a Markdown table; a column that nothing fills is left out."""
    rows = {key: figures_of(group) for key, group in grouped(measurements).items()}
    columns = {
        title: name
        for title, name in COLUMNS.items()
        if any(figures[name] is not None for figures in rows.values())
    }
    lines = [table_row("load", "target", *columns), table_row(*["---"] * (2 + len(columns)))]
    for (load, target), figures in rows.items():
        cells = (number(figures[name]) for name in columns.values())
        lines.append(table_row(load, target, *cells))
    return lines


def table_row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def number(value: float | None) -> str:
    if value is None:
        return "–"  # noqa: RUF001 - a dash for what was not measured
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.1f}"


def complaint_lines(measurements: Sequence[Measurement]) -> list[str]:
    """What a reader has to know before believing the figures."""
    lines = [
        f"error          {each.load} {each.target}: {kind}: {count}"
        for each in measurements
        for kind, count in each.summary.errors.items()
    ]
    for each in measurements:
        load = each.run.generator
        if load.was_limit:
            lines.append(
                f"generator      {each.load} {each.target}: the generator was the limit: "
                f"{load.cpu_s / load.wall_s:.0%} of a CPU, timers {load.lag_s * 1e3:.0f} ms late"
            )
    return lines
