import json
from pathlib import Path

import pytest

from app.bundled.skills import SKILLS
from app.core.errors import AppError
from app.evaluate.comparison.table import BEGIN, END, put_into, render
from app.evaluate.comparison.variants import (
    IN_DOMAIN,
    NUM_SAMPLES,
    RANDOM,
    VARIANTS,
    write_calibrations,
)
from app.quantize.job import Calibration
from app.quantize.recipes import RECIPES
from tests.unit.evaluate.reports import make_report

PROVENANCE = {"cost": {"seconds": 41.6, "peak_memory_bytes": 3 * 2**29}}


def test_every_recipe_is_compared_and_calibrated_where_it_can_be() -> None:
    assert {variant.recipe for variant in VARIANTS} == set(RECIPES)
    for variant in VARIANTS:
        assert (variant.calibration is not None) == RECIPES[variant.recipe].needs_calibration
    assert len({variant.slug for variant in VARIANTS}) == len(VARIANTS)


def test_the_calibrations_have_all_skills_or_none(tmp_path: Path) -> None:
    paths = write_calibrations(tmp_path)
    rows = {
        name: [json.loads(line) for line in path.read_text().splitlines()]
        for name, path in paths.items()
    }
    assert {len(found) for found in rows.values()} == {NUM_SAMPLES}
    assert sum(bool(row["tools"]) for row in rows[IN_DOMAIN]) == NUM_SAMPLES // len(SKILLS)
    assert all(row["text"].strip() for row in rows[RANDOM])
    assert all(Calibration(str(path), 1, 1).local_path == path for path in paths.values())


def test_the_table_has_a_row_for_the_original_and_for_each_variant() -> None:
    rows = [(variant, make_report(), PROVENANCE) for variant in VARIANTS]
    table = render(rows).splitlines()
    assert len(table) == 2 + 1 + len(VARIANTS)
    assert {line.count("|") for line in table} == {11}
    assert "95.00 (" in table[3]
    assert table[3].endswith("| 42 | 1.50 |")


def test_the_table_is_put_between_its_marks(tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for table in ("| 1 |", "| 2 |"):
        put_into(document, table)
    assert document.read_text() == f"before\n{BEGIN}\n\n| 2 |\n\n{END}\nafter\n"
    document.write_text("no marks")
    with pytest.raises(AppError, match="no place"):
        put_into(document, "| 3 |")
