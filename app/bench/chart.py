"""A line chart as SVG."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df", "#57606a")
WIDTH, HEIGHT = 720, 440
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 40, 90

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Axis:
    label: str
    low: float
    high: float

    def ticks(self) -> list[float]:
        """Round numbers, about five."""
        raw = (self.high - self.low) / 5
        size = 10 ** math.floor(math.log10(raw))
        step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= raw)
        first = math.ceil(self.low / step)
        return [index * step for index in range(first, math.floor(self.high / step) + 1)]


@dataclass(frozen=True)
class Chart:
    title: str
    x: Axis
    y: Axis

    def place(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x.low) / (self.x.high - self.x.low)
        up = (y - self.y.low) / (self.y.high - self.y.low)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (
            HEIGHT - TOP - BOTTOM
        )

    def grid(self) -> list[str]:
        parts = []
        for tick in self.x.ticks():
            x, _ = self.place(tick, self.y.low)
            parts.append(line(x, TOP, x, HEIGHT - BOTTOM))
            parts.append(text(x, HEIGHT - BOTTOM + 18, f"{tick:g}", "middle"))
        for tick in self.y.ticks():
            _, y = self.place(self.x.low, tick)
            parts.append(line(LEFT, y, WIDTH - RIGHT, y))
            parts.append(text(LEFT - 8, y + 4, f"{tick:g}", "end"))
        return [
            *parts,
            text(WIDTH / 2, 22, self.title, "middle"),
            text(WIDTH / 2, HEIGHT - BOTTOM + 38, self.x.label, "middle"),
            f'<g transform="rotate(-90)">{text(-HEIGHT / 2, 16, self.y.label, "middle")}</g>',
        ]

    def curve(self, points: Points, colour: str, *, marked: bool) -> list[str]:
        placed = [self.place(x, y) for x, y in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        parts = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>']
        if marked:
            parts += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in placed
            ]
        return parts


def line_chart(
    title: str, x_label: str, y_label: str, series: Mapping[str, Points], *, marked: bool = False
) -> str:
    """Both axes begin at 0 and end at the largest value; `series` has at least one point."""
    points = [point for curve in series.values() for point in curve]
    chart = Chart(
        title,
        Axis(x_label, 0.0, max(x for x, _ in points) or 1.0),
        Axis(y_label, 0.0, max(y for _, y in points) or 1.0),
    )
    parts = chart.grid()
    for index, (name, curve) in enumerate(series.items()):
        colour = COLOURS[index % len(COLOURS)]
        x = LEFT + index * (WIDTH - LEFT - RIGHT) / len(series)
        parts.append(
            f'<rect x="{x:.0f}" y="{HEIGHT - 28}" width="12" height="12" fill="{colour}"/>'
        )
        parts.append(text(x + 18, HEIGHT - 18, name, "start"))
        parts += chart.curve(curve, colour, marked=marked)
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="12">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>\n{body}\n</svg>\n'
    )


def line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#d0d7de"/>'


def text(x: float, y: float, content: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(content)}</text>'
