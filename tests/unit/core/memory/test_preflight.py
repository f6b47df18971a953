"""What is refused and what is only said, as pure functions."""

from dataclasses import replace

import pytest

from app.core.checkpoint_scheme import SchemeName
from app.core.gpus import CARDS, GIB
from app.core.loaded_model import LoadedModel
from app.core.memory.comparison import compare_loaded
from app.core.memory.knobs import Device, Knobs
from app.core.memory.plan import make_plan
from app.core.memory.preflight import (
    DoesNotFitError,
    DriverError,
    GenerationError,
    refuse_driver,
    refuse_generation,
    refuse_memory,
    scheme_named,
)
from tests.unit.core.memory.models import LLAMA_31_8B, quantized, shape

LLAMA_W8A8 = shape(quantized(LLAMA_31_8B))
CARD = {card.key: card.gpu for card in CARDS}
KNOBS = Knobs(max_model_len=8192, max_num_seqs=32, max_num_batched_tokens=2048)


@pytest.mark.parametrize("driver", ["580.65.06", "590.1", "1000", "unknown"])
def test_new_and_unreadable_driver_versions_pass(driver: str) -> None:
    refuse_driver(driver, num_gpus=1, wanted_gpus=1)


def test_an_old_driver_is_refused() -> None:
    with pytest.raises(DriverError, match=r"579\.99"):
        refuse_driver("579.99", num_gpus=1, wanted_gpus=1)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.key)
def test_every_known_card_runs_int8(card: object) -> None:
    refuse_generation(card.gpu, scheme_named("w8a8-int8"), "auto")  # type: ignore[attr-defined]


def test_the_way_out_is_what_the_gpu_has() -> None:
    blackwell = replace(CARD["h200"], name="NVIDIA B200", capability=(10, 0))
    with pytest.raises(GenerationError, match="serve an fp8 one"):
        refuse_generation(blackwell, scheme_named(SchemeName.W8A8_INT8), "auto")
    refuse_generation(blackwell, scheme_named(SchemeName.FP8), "auto")


def test_a_plan_that_fails_by_an_estimate_alone_is_said_and_not_refused() -> None:
    exact = make_plan(LLAMA_W8A8, Device.of(CARD["a10"]), KNOBS)
    needed = exact.weights_bytes + exact.one_sequence_bytes
    tight = int(needed / KNOBS.gpu_memory_utilization) + 2**20
    device = Device("a GPU", tight, tight, (8, 6))
    plan = make_plan(LLAMA_W8A8, device, KNOBS)
    assert not plan.fits
    assert "it may not fit" in refuse_memory(plan, KNOBS)
    smaller = replace(device, total_bytes=tight - 2 * 2**20 - GIB // 64)
    with pytest.raises(DoesNotFitError):
        refuse_memory(make_plan(LLAMA_W8A8, smaller, KNOBS), KNOBS)


def test_a_plan_that_fits_says_nothing() -> None:
    assert refuse_memory(make_plan(LLAMA_W8A8, Device.of(CARD["a10"]), KNOBS), KNOBS) == ""


def test_planned_and_actual_are_compared_over_all_gpus() -> None:
    knobs = replace(KNOBS, tensor_parallel_size=2)
    plan = make_plan(LLAMA_W8A8, Device.of(CARD["a10"]), knobs)
    peak = plan.overhead("activations") + plan.overhead("CUDA graphs")
    loaded = LoadedModel(
        layers={},
        head="",
        parameter_bytes=plan.weights_bytes * 2,
        num_workers=2,
        max_model_len=8192,
        max_num_seqs=32,
        num_kv_blocks=plan.num_blocks * 2,
        kv_block_tokens=16,
        gpu_memory={"peak": peak // 2},
    )
    weights, kv_cache, peaks = compare_loaded(plan, loaded)
    assert (weights.ratio, weights.error, weights.is_within_goal) == (1, 0, True)
    assert (kv_cache.ratio, kv_cache.is_within_goal) == (0.5, False)
    assert peaks.ratio == pytest.approx(2, abs=1e-6)


def test_without_gpu_figures_only_weights_and_kv_cache_are_compared() -> None:
    plan = make_plan(LLAMA_W8A8, Device("CPU", 64 * GIB, 64 * GIB, None), KNOBS)
    loaded = LoadedModel({}, "", 1, 1, 8192, 32, 4, 128)
    assert [each.name for each in compare_loaded(plan, loaded)] == ["weights", "kv_cache"]
