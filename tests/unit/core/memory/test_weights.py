"""Weights in memory, against sums done by hand."""

import pytest

from app.core.checkpoint_header import Tensor
from app.core.memory.weights import Placement, weights_at_16_bit, weights_by_kind
from tests.unit.core.memory.models import LLAMA_31_8B, MISTRAL_7B_V01, QWEN_25_05B, quantized, shape

BF16 = Placement(dtype_bytes=2)


def total(config: dict[str, object], placement: Placement = BF16) -> int:
    return sum(weights_by_kind(shape(config), placement).values())


def test_llama_31_8b_in_w8a8_takes_8_46_gib() -> None:
    weights = weights_by_kind(shape(quantized(LLAMA_31_8B)), BF16)
    attention = 4096 * 4096 * 2 + 1024 * 4096 * 2  # q and o, k and v: one byte each
    assert weights == {
        "embedding": 128256 * 4096 * 2,
        "output head": 128256 * 4096 * 2,
        "attention": 32 * attention,
        "mlp": 32 * 3 * 14336 * 4096,
        "norms": (2 * 32 + 1) * 4096 * 2,
        "scales": 32 * (4096 + 1024 + 1024 + 4096 + 14336 + 14336 + 4096) * 4,
    }
    assert sum(weights.values()) == 9_086_705_664
    assert round(sum(weights.values()) / 2**30, 2) == 8.46


def test_llama_31_8b_at_16_bit_takes_14_96_gib() -> None:
    assert total(LLAMA_31_8B) == 8_030_261_248 * 2
    assert weights_at_16_bit(shape(quantized(LLAMA_31_8B)), BF16) == 8_030_261_248 * 2
    assert round(8_030_261_248 * 2 / 2**30, 2) == 14.96


def test_qwen_25_05b_has_biases_and_counts_its_tied_embedding_once() -> None:
    assert total(QWEN_25_05B) == 494_032_768 * 2
    assert "output head" not in weights_by_kind(shape(QWEN_25_05B), BF16)


def test_mistral_7b_has_7_2_billion_parameters() -> None:
    assert total(MISTRAL_7B_V01) == 7_241_732_096 * 2


def test_fp8_weights_are_as_large_as_int8_ones() -> None:
    assert total(quantized(LLAMA_31_8B, "float")) == total(quantized(LLAMA_31_8B))


def test_two_gpus_split_matrices_and_repeat_norms_and_row_parallel_scales() -> None:
    whole = weights_by_kind(shape(quantized(LLAMA_31_8B)), BF16)
    half = weights_by_kind(shape(quantized(LLAMA_31_8B)), Placement(2, num_gpus=2))
    for kind in ("embedding", "output head", "attention", "mlp"):
        assert half[kind] * 2 == whole[kind]
    assert half["norms"] == whole["norms"]
    split, repeated = 4096 + 1024 + 1024 + 14336 + 14336, 4096 + 4096
    assert half["scales"] == 32 * (split // 2 + repeated) * 4


def test_sixteen_gpus_repeat_the_eight_kv_heads() -> None:
    eighth = weights_by_kind(shape(LLAMA_31_8B), Placement(2, num_gpus=8))["attention"]
    sixteenth = weights_by_kind(shape(LLAMA_31_8B), Placement(2, num_gpus=16))["attention"]
    keys_and_values = 32 * 2 * 128 * 4096 * 2
    assert sixteenth == (eighth - keys_and_values) // 2 + keys_and_values


def test_on_the_cpu_an_int8_layer_keeps_a_second_row_of_scales() -> None:
    gpu = weights_by_kind(shape(quantized(LLAMA_31_8B)), BF16)
    cpu = weights_by_kind(shape(quantized(LLAMA_31_8B)), Placement(2, on_cpu=True))
    assert cpu["scales"] == 2 * gpu["scales"]
    assert cpu["mlp"] == gpu["mlp"]


def test_a_vocabulary_is_padded_to_a_multiple_of_64() -> None:
    assert total({**LLAMA_31_8B, "vocab_size": 128001}) == total(
        {**LLAMA_31_8B, "vocab_size": 128064}
    )


@pytest.mark.parametrize(("dtype", "num_bytes"), [("F32", 2), ("BF16", 2), ("I32", 4), ("I8", 1)])
def test_floats_take_the_serving_dtype_and_packed_integers_their_own(
    dtype: str, num_bytes: int
) -> None:
    base = shape(LLAMA_31_8B)
    size = {"F32": 4, "BF16": 2, "I32": 4, "I8": 1}[dtype]
    one = Tensor("model.layers.0.mlp.down_proj.weight", dtype, (8, 8), 64 * size, "", 0)
    only = type(base)(base.architecture, base.scheme, (one,), base.windows)
    assert weights_by_kind(only, BF16) == {"mlp": 64 * num_bytes}
