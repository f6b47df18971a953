"""The comparison of servers as Markdown: medians, and each one's ratio to one of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from app.bench.campaign import Measurement
from app.bench.figures import figures_of, grouped
from app.bench.report import machine, today_here
from app.bench.table import number, table_row
from app.core.errors import AppError

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


def comparison_lines(
    measurements: Sequence[Measurement],
    base_name: str,
    columns: Mapping[str, str] = COLUMNS,
) -> list[str]:
    """`columns`: a figure's name for each heading."""
    figures = {key: figures_of(group) for key, group in grouped(measurements).items()}
    repetitions = 1 + max(each.repetition for each in measurements)
    lines = [
        f"{today_here()}, Python {machine()['python']}; medians of {repetitions}, in brackets the "
        f"ratio to {base_name}.",
        "",
        table_row("load", "server", *columns),
        table_row(*["---"] * (2 + len(columns))),
    ]
    for (load, target), values in figures.items():
        base = figures.get((load, base_name), {}) if target != base_name else {}
        cells = [with_ratio(values.get(name), base.get(name)) for name in columns.values()]
        lines.append(table_row(load, target, *cells))
    return lines


def with_ratio(value: float | None, base: float | None) -> str:
    if value is None or not base:
        return number(value)
    return f"{number(value)} ({value / base:.2f})"


def write_section(path: Path, lines: Sequence[str], name: str) -> None:
    """Replaces what stands between the two marks of that name in the file."""
    marks = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, begin, rest = path.read_text().partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not (begin and end):
        raise SectionError(f"{path} lacks the lines {' and '.join(marks)} around the table.")
    path.write_text("\n".join([before + begin, "", *lines, "", end + after]))
