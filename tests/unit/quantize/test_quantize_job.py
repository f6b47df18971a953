from pathlib import Path

import pytest

from app.core.errors import AppError
from app.quantize.job import Calibration
from app.quantize.recipes import RECIPES, Recipe
from tests.unit.quantize.jobs import make_job


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_every_recipe_leaves_the_output_layer_alone_and_names_its_source(recipe: Recipe) -> None:
    last = list(recipe.modifiers().values())[-1]
    assert "lm_head" in last["ignore"]
    assert recipe.source


def test_the_strength_of_smoothquant_can_be_set() -> None:
    recipe = RECIPES["smoothquant-gptq-int8"]
    assert recipe.modifiers()["SmoothQuantModifier"] == {"smoothing_strength": 0.8}
    assert recipe.modifiers(0.0)["SmoothQuantModifier"] == {"smoothing_strength": 0.0}


def test_only_rounding_recipes_need_no_calibration() -> None:
    without = {name for name, recipe in RECIPES.items() if not recipe.needs_calibration}
    assert without == {"dynamic-int8", "fp8-dynamic"}


def test_an_output_that_is_there_is_never_written_over(tmp_path: Path) -> None:
    with pytest.raises(AppError, match="is there already"):
        make_job(tmp_path).check()


@pytest.mark.parametrize(
    ("recipe", "strength", "says"),
    [("smoothquant-gptq-int8", 1.5, "between 0 and 1"), ("gptq-int8", 0.5, "no SmoothQuant")],
)
def test_a_strength_that_means_nothing_is_refused(
    tmp_path: Path, recipe: str, strength: float, says: str
) -> None:
    with pytest.raises(AppError, match=says):
        make_job(tmp_path / "out", recipe, smoothing_strength=strength).check()


@pytest.mark.parametrize(
    ("calibration", "says"),
    [
        (Calibration("absent.jsonl", 8, 64), "no calibration file"),
        (Calibration("owner/set", 0, 64), "at least 1"),
        (Calibration("owner/set", 8, 0), "at least 1"),
    ],
)
def test_a_calibration_that_cannot_be_is_refused(
    tmp_path: Path, calibration: Calibration, says: str
) -> None:
    with pytest.raises(AppError, match=says):
        make_job(tmp_path / "out", calibration=calibration).check()
