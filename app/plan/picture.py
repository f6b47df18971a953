"""A plan as a picture: one bar of the GPU's memory, as SVG."""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from app.core.memory.plan import Plan
from app.core.memory.units import readable

WIDTH, BAR_TOP, BAR_HEIGHT, LEFT = 860, 60, 56, 30
LEGEND_TOP, LINE = 150, 24
COLOURS = ("#33658a", "#f6ae2d", "#f26419", "#8c6bb1", "#c44e52", "#55a868", "#d9d9d9")


@dataclass(frozen=True, slots=True)
class Part:
    name: str
    num_bytes: int


def parts_of(plan: Plan) -> list[Part]:
    """They add up to the device's memory where the plan fits."""
    parts = [Part("weights", plan.weights_bytes)]
    parts += [Part(f"{term.name} (estimate)", term.num_bytes) for term in plan.overheads]
    parts.append(Part("KV cache", max(plan.kv_bytes, 0)))
    rest = plan.device.total_bytes - sum(part.num_bytes for part in parts)
    return [*parts, Part("not used by the engine", max(rest, 0))]


def draw(plan: Plan) -> str:
    parts = parts_of(plan)
    total = max(sum(part.num_bytes for part in parts), 1)
    height = LEGEND_TOP + LINE * (len(parts) + 1)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'font-family="sans-serif" font-size="14">',
            f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
            text(LEFT, 32, f"{plan.shape.name} ({plan.shape.scheme.name}) on {plan.device.name}"),
            *bars(parts, total),
            *legend(plan, parts),
            "</svg>\n",
        ]
    )


def bars(parts: list[Part], total: int) -> Iterator[str]:
    x, scale = float(LEFT), (WIDTH - 2 * LEFT) / total
    for index, part in enumerate(parts):
        width = part.num_bytes * scale
        yield (
            f'<rect x="{x:.1f}" y="{BAR_TOP}" width="{width:.1f}" height="{BAR_HEIGHT}" '
            f'fill="{colour(index, parts)}"><title>{escape(part.name)}</title></rect>'
        )
        x += width


def legend(plan: Plan, parts: list[Part]) -> Iterator[str]:
    y = LEGEND_TOP
    for index, part in enumerate(parts):
        square = f'width="14" height="14" fill="{colour(index, parts)}"'
        yield f'<rect x="{LEFT}" y="{y - 12}" {square}/>'
        yield text(LEFT + 24, y, f"{part.name}: {readable(part.num_bytes)}")
        y += LINE
    length = plan.settings.max_model_len
    said = f"{plan.kv_tokens:,} KV tokens: {plan.full_sequences} sequences of {length:,}"
    yield text(LEFT, y, said)


def colour(index: int, parts: list[Part]) -> str:
    return COLOURS[-1] if index == len(parts) - 1 else COLOURS[index % (len(COLOURS) - 1)]


def text(x: int, y: int, words: str) -> str:
    return f'<text x="{x}" y="{y}">{escape(words)}</text>'
