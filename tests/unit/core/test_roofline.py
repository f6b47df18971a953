"""The floor of a step, against figures worked out by hand."""

import pytest

from app.core.llama_shape import LLAMA_8B, LlamaShape
from app.core.roofline import Ceilings, Served, Work

# One layer: q 4x4, k and v 2x4, o 4x4, gate, up 8x4, down 4x8: 144 values, 32 output channels.
SMALL = LlamaShape(4, 8, 1, 2, 1, 2, 10)
FAST = Ceilings(1e12, {"bf16": 1e15, "int8": 2e15})


def test_llama_8b_has_the_parameters_that_its_card_says() -> None:
    embedding_and_head = 2 * LLAMA_8B.vocab_size * LLAMA_8B.hidden_size
    norms = (2 * LLAMA_8B.num_layers + 1) * LLAMA_8B.hidden_size
    assert LLAMA_8B.linear_values + embedding_and_head + norms == 8_030_261_248
    assert LLAMA_8B.kv_bytes_per_token(2) == 128 * 1024


def test_a_decode_step_moves_weights_head_and_keys_once() -> None:
    work = Served(SMALL, "bf16").decode_step(num_seqs=3, context=4)
    # 144 values, the head's 40, three rows of the embedding; 15 tokens of 8 bytes.
    assert work.num_bytes == 2 * (144 + 40 + 3 * 4) + 15 * 8
    # Linear, head, and q.k and p.v of 15 tokens over 4 channels.
    assert work.operations == {"bf16": 2 * 3 * 144 + 2 * 3 * 40 + 4 * 15 * 4}


def test_eight_bits_halve_the_matrices_and_add_their_scales() -> None:
    work = Served(SMALL, "int8", kv_value_bytes=1).decode_step(num_seqs=3, context=4)
    assert work.num_bytes == (144 + 4 * 32) + 2 * (40 + 3 * 4) + 15 * 4
    assert work.operations == {"int8": 2 * 3 * 144, "bf16": 2 * 3 * 40 + 4 * 15 * 4}


def test_a_prompt_attends_to_half_of_its_square() -> None:
    work = Served(SMALL, "bf16").prefill(num_seqs=2, length=6, step_tokens=5)
    assert work.num_bytes == 3 * 2 * 144 + 12 * 8
    assert work.operations == {"bf16": 2 * 12 * 144 + 2 * 2 * 40 + 2 * 12 * 6 * 4}


@pytest.mark.parametrize(
    ("work", "floor_s"),
    [
        (Work(10**12, {"bf16": 10**12}), 1.0),  # memory
        (Work(10**9, {"bf16": 10**15, "int8": 10**15}), 1.5),  # arithmetic, one after the other
    ],
)
def test_the_floor_is_the_slower_of_memory_and_arithmetic(work: Work, floor_s: float) -> None:
    assert work.floor_s(FAST) == pytest.approx(floor_s)


def test_a_rate_that_was_not_measured_gives_no_floor() -> None:
    assert Work(1, {"fp8": 1}).floor_s(FAST) is None


def test_the_8b_model_at_64_sequences_is_bound_by_memory_on_a_hopper_card() -> None:
    hopper = Ceilings(4e12, {"bf16": 800e12, "int8": 1600e12})
    bf16, int8 = (Served(LLAMA_8B, kind).decode_step(64, 256) for kind in ("bf16", "int8"))
    for work in (bf16, int8):
        assert work.floor_s(hopper) == pytest.approx(work.num_bytes / 4e12)
    assert 1.5 < bf16.num_bytes / int8.num_bytes < 1.7
