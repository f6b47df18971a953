"""The comparison of servers as Markdown: medians, and each one's ratio to the stock server."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from app.bench.campaign import Measurement
from app.bench.figures import figures_of, grouped
from app.bench.report import machine
from app.bench.table import number, table_row
from app.core.errors import AppError

BASE = "stock"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
COLUMNS = {
    "CPU µs/token": "server_cpu_us_per_token",
    "CPU ms/request": "server_cpu_ms_per_request",
    "tokens/s": "output_tokens_per_s",
    "requests/s": "requests_per_s",
    "first token p50 ms": "first_token_p50_ms",
    "p99 ms": "first_token_p99_ms",
    "latency p50 ms": "latency_p50_ms",
}


class SectionError(AppError):
    """A file without the place for the table."""


def comparison_lines(measurements: Sequence[Measurement]) -> list[str]:
    figures = {key: figures_of(group) for key, group in grouped(measurements).items()}
    about = machine()
    repetitions = 1 + max(each.repetition for each in measurements)
    lines = [
        f"{datetime.now(UTC):%Y-%m-%d}, {about['cpu']}, {about['num_cpus']} CPUs, Python "
        f"{about['python']}; medians of {repetitions}, in brackets the ratio to {BASE}.",
        "",
        table_row("load", "server", *COLUMNS),
        table_row(*["---"] * (2 + len(COLUMNS))),
    ]
    for (load, target), values in figures.items():
        base = figures.get((load, BASE), {}) if target != BASE else {}
        cells = [with_ratio(values.get(name), base.get(name)) for name in COLUMNS.values()]
        lines.append(table_row(load, target, *cells))
    return lines


def with_ratio(value: float | None, base: float | None) -> str:
    if value is None or not base:
        return number(value)
    return f"{number(value)} ({value / base:.2f})"


def write_section(path: Path, lines: Sequence[str]) -> None:
    """Replaces what stands between the two marks in the file."""
    text = path.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SectionError(f"{path} has no lines {BEGIN} and {END} to put the table between.")
    path.write_text("\n".join([before + BEGIN, "", *lines, "", END + after]))
