"""quality.html: the report on one page, with plots, and nothing to be fetched."""

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

FILE = "quality.html"
WIDTH, BAR_HEIGHT, LABEL_WIDTH = 640, 22, 150
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem;
  color: #222; background: #fff; }
table { border-collapse: collapse; } td, th { padding: .2rem .8rem .2rem 0; text-align: left; }
svg text { font: 13px system-ui, sans-serif; fill: currentColor; }
.baseline { fill: #9aa5b1; } .candidate { fill: #2f6f4f; } .whisker { stroke: currentColor; }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #1b1d20; } }
"""


def write_page(report: dict[str, Any], directory: Path) -> Path:
    path = directory / FILE
    path.write_text(render(report), encoding="utf-8")
    return path


def render(report: dict[str, Any]) -> str:
    low, high = report["recovery"]["interval"]
    title = f"Quality of {escape(report['candidate']['name'])}"
    return "\n".join(
        (
            "<!doctype html>",
            f'<html lang="en"><meta charset="utf-8"><title>{title}</title>',
            f"<style>{STYLE}</style>",
            f"<h1>{title}</h1>",
            f"<p><b>{report['recovery']['percent']:.2f} %</b> of the accuracy of "
            f"{escape(report['baseline']['name'])} is kept (95 %: {low:.2f} to {high:.2f} %; "
            f"{escape(report['recovery']['method'])}). {report['recovery']['lost']} answers were "
            f"lost (at most {report['recovery']['lost_share_interval'][1]:.2%} of all such, 95 %) "
            f"and {report['recovery']['gained']} gained.</p>",
            "<h2>Exact answers</h2>",
            accuracy_plot(report),
            "<h2>Next-token distributions</h2>",
            divergence_plot(report["text"]["kl_nats"]),
            "<h2>Numbers</h2>",
            numbers(report),
            "</html>\n",
        )
    )


def accuracy_plot(report: dict[str, Any]) -> str:
    groups = {**report["skills"], "all": report["accuracy"]}
    bars = [
        (f"{skill}, {who}", facts[who]["share"], facts[who]["interval"], who)
        for skill, facts in groups.items()
        for who in ("baseline", "candidate")
    ]
    return svg(len(bars), accuracy_bars(bars))


def accuracy_bars(bars: list[tuple[str, float, tuple[float, float], str]]) -> Iterator[str]:
    scale = WIDTH - LABEL_WIDTH - 70
    for row, (label, share, (low, high), kind) in enumerate(bars):
        middle = row * BAR_HEIGHT + BAR_HEIGHT / 2
        yield bar(row, label, share * scale, f"{share:.1%}", kind)
        left, right = (LABEL_WIDTH + end * scale for end in (low, high))
        yield f'<path class="whisker" d="M{left:.1f} {middle}H{right:.1f}"/>'


def divergence_plot(kl: dict[str, Any]) -> str:
    """How many positions fall into each decade of divergence."""
    edges, counts = kl["histogram"]["edges"], kl["histogram"]["counts"]
    labels = [f"below {edges[0]:g}", *(f"from {edge:g}" for edge in edges)]
    scale = (WIDTH - LABEL_WIDTH - 70) / max(counts)
    rows = (
        bar(row, f"{label} nats", count * scale, str(count), "candidate")
        for row, (label, count) in enumerate(zip(labels, counts, strict=True))
    )
    return svg(len(counts), rows)


def bar(row: int, label: str, length: float, value: str, kind: str) -> str:
    top, baseline = row * BAR_HEIGHT + 3, row * BAR_HEIGHT + 16
    return (
        f'<text x="0" y="{baseline}">{escape(label)}</text>'
        f'<rect class="{kind}" x="{LABEL_WIDTH}" y="{top}" width="{length:.1f}" '
        f'height="{BAR_HEIGHT - 6}"/>'
        f'<text x="{WIDTH - 60}" y="{baseline}">{escape(value)}</text>'
    )


def svg(num_rows: int, marks: Iterator[str]) -> str:
    height = num_rows * BAR_HEIGHT
    return f'<svg viewBox="0 0 {WIDTH} {height}" width="100%">{"".join(marks)}</svg>'


def numbers(report: dict[str, Any]) -> str:
    text, json_validity = report["text"], report["json_validity"]
    rows = [
        ("", "baseline", "candidate"),
        ("scheme", report["baseline"]["scheme"], report["candidate"]["scheme"]),
        ("MiB", *(f"{report[who]['num_bytes'] / 2**20:.1f}" for who in ("baseline", "candidate"))),
        ("perplexity", *(f"{text['perplexity'][who]:.4f}" for who in ("baseline", "candidate"))),
        ("valid JSON", *(percent(json_validity[who]) for who in ("baseline", "candidate"))),
        ("greedy agreement", "", f"{text['greedy_agreement']:.2%}"),
        ("mean KL, nats", "", f"{text['kl_nats']['mean']:.3g} over {text['kl_nats']['over']}"),
        ("digest", *(report[who]["digest"][:16] for who in ("baseline", "candidate"))),
    ]
    cells = ("".join(f"<td>{escape(str(cell))}</td>" for cell in row) for row in rows)
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"


def percent(share: float | None) -> str:
    return "not asked" if share is None else f"{share:.2%}"
