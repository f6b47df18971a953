"""The profiles in config/profiles are what the planner gives."""

from pathlib import Path

import pytest
import yaml

from app.core.gpus import (
    CARDS,
    LLAMA_MIN_TOTAL_BYTES,
    LLAMA_PROFILE,
    Gpu,
    choose_profile,
)
from app.core.memory.knobs import Device, Knobs
from app.core.memory.plan import make_plan
from app.plan.profiles import cards_table, plan_cards, published_models, write_profiles

FOLDER = Path(__file__).parents[3] / "config" / "profiles"
GENERAL = {"bundled", "bundled-16bit", LLAMA_PROFILE}


def test_every_profile_is_what_the_planner_writes_today(tmp_path: Path) -> None:
    written = {path.name: path.read_text() for path in write_profiles(tmp_path)}
    kept = {path.name: path.read_text() for path in FOLDER.glob("*.yaml")}
    others = {name for name in kept if name.removesuffix(".yaml") not in GENERAL}
    assert others == set(written)
    assert all(kept[name] == text for name, text in written.items())


@pytest.mark.parametrize("path", sorted(FOLDER.glob("llama*.yaml")), ids=lambda path: path.stem)
def test_a_profile_starts_as_it_says_on_its_card(path: Path) -> None:
    profile = yaml.safe_load(path.read_text())
    engine = profile["engine"]
    assert profile["model"]["scheme"] in ("w8a8-int8", "fp8")
    assert set(profile["model"]) == {"path", "revision", "served_name", "scheme"}
    assert engine["max_model_len"] >= 2048
    if path.stem.endswith(("-t4", "-rtx2080ti")):
        assert engine["dtype"] == "float16"


def test_a_card_without_a_profile_is_in_the_table_with_the_reason() -> None:
    without = [card_plan for card_plan in plan_cards() if not card_plan.has_profile]
    assert [card_plan.card.key for card_plan in without] == ["rtx3080"]
    row = next(line for line in cards_table() if "RTX 3080" in line)
    assert "none: " in row
    assert "are left, too little for 2 sequences" in row


def test_the_table_has_every_card_and_fp8_where_the_card_has_it() -> None:
    rows = list(cards_table())[2:]
    assert len(rows) == len(CARDS) + sum(card.gpu.has_fp8 for card in CARDS)


def test_cards_with_fp8_are_told_that_it_is_the_better_choice() -> None:
    for card in CARDS:
        path = FOLDER / f"{LLAMA_PROFILE}-{card.key}.yaml"
        if path.exists():
            assert ("FP8 is the better choice" in path.read_text()) == card.gpu.has_fp8


def test_the_general_profile_fits_from_the_size_on_that_auto_asks_for() -> None:
    engine = yaml.safe_load((FOLDER / f"{LLAMA_PROFILE}.yaml").read_text())["engine"]
    names = set(Knobs.__dataclass_fields__) & set(engine)
    knobs = Knobs(**{name: engine[name] for name in names})
    int8, _ = published_models()
    for capability in ((7, 5), (8, 6)):
        size = LLAMA_MIN_TOTAL_BYTES
        unknown = Gpu("some GPU", size, size, capability)
        assert choose_profile((unknown,), ()).profile == LLAMA_PROFILE
        assert make_plan(int8.shape, Device.of(unknown), knobs).fits
