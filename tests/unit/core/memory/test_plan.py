"""The plan as a whole: by hand for one card, and as properties over many."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.errors import SettingsError
from app.core.gpus import CARDS, GIB
from app.core.memory.advice import Wanted, advise
from app.core.memory.fixes import find_fixes
from app.core.memory.knobs import Device, Knobs
from app.core.memory.overheads import captured_sizes
from app.core.memory.plan import make_plan
from tests.unit.core.memory.models import LLAMA_31_8B, MISTRAL_7B_V01, QWEN_25_05B, quantized, shape

LLAMA_W8A8 = shape(quantized(LLAMA_31_8B))
SHAPES = (LLAMA_W8A8, shape(LLAMA_31_8B), shape(QWEN_25_05B), shape(quantized(MISTRAL_7B_V01)))
CARD_OF = {card.key: Device.of(card.gpu) for card in CARDS}
A10 = CARD_OF["a10"]
KNOBS = Knobs(max_model_len=16384, max_num_seqs=64, max_num_batched_tokens=2048)


def gpu(num_bytes: int, capability: tuple[int, int] = (8, 6)) -> Device:
    return Device("a GPU", num_bytes, num_bytes, capability)


def test_the_terms_add_up_to_the_share_of_the_card() -> None:
    plan = make_plan(LLAMA_W8A8, A10, KNOBS)
    parts = plan.weights_bytes + sum(term.num_bytes for term in plan.overheads) + plan.kv_bytes
    assert parts == plan.budget_bytes == -(-A10.total_bytes * 9 // 10)
    assert plan.fits
    assert plan.kv_tokens == plan.kv_bytes // (16 * 128 * 1024) * 16


def test_every_term_that_no_gpu_has_confirmed_is_marked() -> None:
    plan = make_plan(LLAMA_W8A8, A10, KNOBS)
    names = [term.name for term in plan.overheads if term.is_estimate]
    assert names == ["activations", "CUDA graphs", "runtime"]


def test_activations_of_a_step_by_hand() -> None:
    plan = make_plan(LLAMA_W8A8, A10, KNOBS)
    stream, mlp = 2048 * 4096 * 2 * 2, 2048 * 14336 * (3 * 2 + 1)
    assert plan.overhead("activations") == (stream + mlp) * 5 // 4
    many = make_plan(LLAMA_W8A8, A10, replace(KNOBS, max_num_seqs=1024))
    assert many.overhead("activations") == (stream + 1024 * 128256 * 14) * 5 // 4


def test_llama_31_8b_once_loaded_is_what_a_public_log_says() -> None:
    plan = make_plan(shape(LLAMA_31_8B), CARD_OF["l40s"], KNOBS)
    assert round((plan.weights_bytes + plan.overhead("rotary table")) / GIB, 3) == 14.989


def test_captured_sizes_are_the_engines() -> None:
    assert captured_sizes(2048, 8) == (1, 2, 4, 8, 16)
    assert captured_sizes(2048, 100)[-3:] == (184, 192, 200)
    assert 100 in captured_sizes(2048, 100)
    assert len(captured_sizes(8192, 256)) == 3 + 31 + 17
    assert captured_sizes(4, 256) == (1, 2, 4)


def test_sixteen_bit_beside_it_leaves_fewer_tokens() -> None:
    plan = make_plan(LLAMA_W8A8, A10, KNOBS)
    twin = make_plan(shape(LLAMA_31_8B), A10, KNOBS)
    assert plan.kv_tokens_at_16_bit == twin.kv_tokens < plan.kv_tokens


def test_memory_that_others_use_makes_a_plan_not_fit() -> None:
    busy = replace(A10, free_bytes=A10.total_bytes - 4 * GIB)
    plan = make_plan(LLAMA_W8A8, busy, KNOBS)
    assert not plan.fits
    assert plan.shortage_bytes == 0
    assert plan.free_shortage_bytes == plan.budget_bytes + GIB // 2 - busy.free_bytes


def test_on_the_cpu_the_kv_cache_is_what_was_set() -> None:
    cpu = Device("CPU", 64 * GIB, 32 * GIB, None)
    plan = make_plan(LLAMA_W8A8, cpu, replace(KNOBS, cpu_kv_cache_gib=4))
    assert plan.kv_bytes == 4 * GIB
    assert plan.kv_cache.block_tokens == 128
    assert plan.kv_tokens == plan.kv_tokens_at_16_bit == 4 * GIB // (128 * 1024)


@pytest.mark.parametrize(
    ("device", "tokens", "seqs"),
    [
        (gpu(24 * GIB), 2048, 256),
        (CARD_OF["a100-80"], 2048, 256),
        (CARD_OF["h100"], 8192, 1024),
        (gpu(180 * GIB), 16384, 1024),
        (Device("CPU", GIB, GIB, None), 2048, 128),
    ],
)
def test_what_is_not_set_is_the_engines_default(device: Device, tokens: int, seqs: int) -> None:
    now = make_plan(LLAMA_W8A8, device, Knobs()).settings
    assert (now.max_num_batched_tokens, now.max_num_seqs) == (tokens, seqs)
    assert now.max_model_len == 131072


def test_turing_serves_in_float16_unless_told_otherwise() -> None:
    assert make_plan(LLAMA_W8A8, CARD_OF["t4"], KNOBS).settings.dtype == "float16"
    assert make_plan(LLAMA_W8A8, A10, KNOBS).settings.dtype == "bfloat16"


def test_a_split_that_cannot_be_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match="tensor_parallel_size is 3"):
        make_plan(LLAMA_W8A8, A10, replace(KNOBS, tensor_parallel_size=3))


def test_a_plan_that_does_not_fit_names_three_ways_that_do() -> None:
    knobs = Knobs(max_model_len=131072, max_num_seqs=256, max_num_batched_tokens=2048)
    plan = make_plan(LLAMA_W8A8, A10, knobs)
    assert not plan.fits
    fixes = find_fixes(plan, knobs)
    assert len(fixes) == 3
    for fix in fixes:
        changed = replace(knobs, **dict(fix.settings))  # type: ignore[arg-type]
        assert make_plan(fix.shape or LLAMA_W8A8, A10, changed).fits, str(fix)


def test_a_16_bit_model_that_is_too_large_is_offered_w8a8() -> None:
    knobs = Knobs(max_model_len=2048, max_num_seqs=16, max_num_batched_tokens=1024)
    plan = make_plan(shape(LLAMA_31_8B), CARD_OF["t4"], knobs)
    assert "model.scheme=w8a8-int8" in str(find_fixes(plan, knobs)[0])


@pytest.mark.parametrize(("length", "now", "expected"), [(16384, 1, 3), (8192, 60, 2)])
def test_on_the_cpu_another_size_of_kv_cache_is_the_first_way(
    length: int, now: int, expected: int
) -> None:
    cpu = Device("CPU", 64 * GIB, 32 * GIB, None)
    knobs = Knobs(max_model_len=length, max_num_seqs=8, cpu_kv_cache_gib=now)
    first = find_fixes(make_plan(LLAMA_W8A8, cpu, knobs), knobs)[0]
    assert first.settings == (("cpu_kv_cache_gib", expected),)


def test_a_plan_that_fits_needs_no_fix() -> None:
    assert find_fixes(make_plan(LLAMA_W8A8, A10, KNOBS), KNOBS) == ()


def test_what_the_user_said_always_wins_over_the_advice() -> None:
    wanted = Wanted(max_model_len=3000, max_num_seqs=7, gpu_memory_utilization=0.7)
    knobs = advise(LLAMA_W8A8, A10, wanted, 1024)
    said = (knobs.max_model_len, knobs.max_num_seqs, knobs.gpu_memory_utilization)
    assert said == (3000, 7, 0.7)


any_shape = st.sampled_from(SHAPES)
any_capability = st.sampled_from([(7, 5), (8, 0), (8, 9), (9, 0)])
any_knobs = st.builds(
    Knobs,
    gpu_memory_utilization=st.floats(0.05, 1.0),
    max_model_len=st.integers(1, 140_000),
    max_num_seqs=st.integers(1, 1024),
    max_num_batched_tokens=st.integers(1, 32_768),
    kv_cache_dtype=st.sampled_from(["auto", "fp8"]),
    tensor_parallel_size=st.sampled_from([1, 2]),
    enforce_eager=st.booleans(),
)
any_bytes = st.integers(1 * GIB, 200 * GIB)


@settings(max_examples=100, deadline=None)
@given(any_shape, any_bytes, any_capability, any_knobs)
def test_what_fits_has_tokens_for_a_whole_sequence(
    model: object, num_bytes: int, capability: tuple[int, int], knobs: Knobs
) -> None:
    plan = make_plan(model, gpu(num_bytes, capability), knobs)  # type: ignore[arg-type]
    if plan.fits:
        assert plan.kv_tokens >= plan.settings.max_model_len > 0
        assert plan.full_sequences >= 1
        assert plan.kv_bytes > 0
    else:
        assert plan.shortage_bytes > 0 or plan.free_shortage_bytes > 0


@settings(max_examples=100, deadline=None)
@given(any_shape, any_bytes, st.integers(0, 50 * GIB), any_capability, any_knobs)
def test_more_memory_never_gives_fewer_tokens(
    model: object, num_bytes: int, more: int, capability: tuple[int, int], knobs: Knobs
) -> None:
    small = make_plan(model, gpu(num_bytes, capability), knobs)  # type: ignore[arg-type]
    large = make_plan(model, gpu(num_bytes + more, capability), knobs)  # type: ignore[arg-type]
    assert large.kv_tokens >= small.kv_tokens
    assert large.full_sequences >= small.full_sequences
    assert large.longest_for(4) >= small.longest_for(4)


@settings(max_examples=100, deadline=None)
@given(any_shape, any_bytes, any_capability, any_knobs, st.integers(1, 64))
def test_the_longest_context_for_a_concurrency_holds_that_many(
    model: object, num_bytes: int, capability: tuple[int, int], knobs: Knobs, wanted: int
) -> None:
    plan = make_plan(model, gpu(num_bytes, capability), knobs)  # type: ignore[arg-type]
    longest = plan.longest_for(wanted)
    if longest:
        assert plan.sequences_at(longest) >= wanted
    limit = plan.shape.architecture.max_positions
    if limit is not None and longest < limit:
        assert plan.sequences_at(longest + 1) < wanted
