"""The comparison as a table of docs/quantization.md."""

from pathlib import Path
from typing import Any

from app.core.errors import AppError
from app.evaluate.comparison.variants import Variant

BEGIN = "<!-- comparison: written by `make bench-quantize` -->"
END = "<!-- end of the comparison -->"
HEADINGS = (
    "recipe",
    "SmoothQuant",
    "calibrated on",
    "exact answers",
    "recovery % (95 %)",
    "perplexity",
    "KL, nats",
    "MiB",
    "seconds",
    "peak GiB",
)


def render(rows: list[tuple[Variant, dict[str, Any], dict[str, Any]]]) -> str:
    """A row for each variant, from its quality report and its provenance; the baseline first."""
    baseline = baseline_cells(rows[0][1])
    cells = [HEADINGS, ["---"] * len(HEADINGS), baseline, *(map_cells(*row) for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def baseline_cells(report: dict[str, Any]) -> list[str]:
    return [
        "none (bf16)",
        *("", ""),
        f"{report['accuracy']['baseline']['share']:.2%}",
        "100",
        f"{report['text']['perplexity']['baseline']:.4f}",
        "0",
        f"{report['baseline']['num_bytes'] / 2**20:.2f}",
        *("", ""),
    ]


def map_cells(variant: Variant, report: dict[str, Any], provenance: dict[str, Any]) -> list[str]:
    low, high = report["recovery"]["interval"]
    strength, cost = variant.smoothing_strength, provenance["cost"]
    return [
        variant.recipe,
        "" if strength is None else f"{strength:g}",
        variant.calibration or "nothing",
        f"{report['accuracy']['candidate']['share']:.2%}",
        f"{report['recovery']['percent']:.2f} ({low:.2f} to {high:.2f})",
        f"{report['text']['perplexity']['candidate']:.4f}",
        f"{report['text']['kl_nats']['mean']:.2g}",
        f"{report['candidate']['num_bytes'] / 2**20:.2f}",
        f"{cost['seconds']:.0f}",
        f"{cost['peak_memory_bytes'] / 2**30:.2f}",
    ]


def put_into(document: Path, table: str) -> None:
    """Replace what stands between the two marks of `document`."""
    text = document.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise AppError(f"{document} has no place for the comparison: {BEGIN} and {END}.")
    document.write_text(f"{before}{begin}\n\n{table}\n\n{end}{after}", encoding="utf-8")
