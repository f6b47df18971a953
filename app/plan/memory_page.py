"""The generated parts of docs/memory.md: tables between two comments that name them."""

from collections.abc import Iterable
from pathlib import Path

from app.core.errors import AppError
from app.plan.measurements import gpu_table, measured_table, read_measurements
from app.plan.profiles import cards_table

PAGE = Path(__file__).parents[2] / "docs" / "memory.md"
NO_GPU_ROWS = "No GPU has been measured yet: every GPU figure on this page is an estimate."


def refresh(text: str) -> str:
    """The page with its tables as they are today."""
    measured = read_measurements()
    text = replace_part(text, "cards", cards_table())
    text = replace_part(text, "measured", measured_table(measured))
    return replace_part(text, "measured-gpu", list(gpu_table(measured)) or [NO_GPU_ROWS])


def replace_part(text: str, name: str, lines: Iterable[str]) -> str:
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise AppError(f"{PAGE.name} has no part between {begin} and {end}.")
    return "\n".join([before + begin, *lines, end + after])
