"""Blocks and tokens of the KV cache, against the engine's rules done by hand."""

import pytest

from app.core.errors import CheckpointError
from app.core.memory.kv_cache import KvCache, kv_cache_of
from tests.unit.core.memory.models import LLAMA_31_8B, MISTRAL_7B_V01, QWEN_25_05B, shape


@pytest.mark.parametrize(
    ("config", "kib"), [(LLAMA_31_8B, 128), (QWEN_25_05B, 12), (MISTRAL_7B_V01, 128)]
)
def test_kv_bytes_per_token(config: dict[str, object], kib: int) -> None:
    assert kv_cache_of(shape(config), 2, 1, 16, 4096).bytes_per_token == kib * 1024


def test_an_fp8_cache_halves_it_and_two_gpus_halve_it_again() -> None:
    llama = shape(LLAMA_31_8B)
    assert kv_cache_of(llama, 1, 1, 16, 4096).bytes_per_token == 64 * 1024
    assert kv_cache_of(llama, 1, 2, 16, 4096).bytes_per_token == 32 * 1024


def test_more_gpus_than_kv_heads_save_nothing_more() -> None:
    llama = shape(LLAMA_31_8B)
    eight, sixteen = (kv_cache_of(llama, 2, n, 16, 4096).bytes_per_token for n in (8, 16))
    assert eight == sixteen == 16 * 1024


def test_full_attention_is_one_group_and_tokens_are_whole_blocks() -> None:
    cache = kv_cache_of(shape(LLAMA_31_8B), 2, 1, 16, 4096)
    assert cache.block_bytes == 16 * 128 * 1024
    blocks = cache.num_blocks(10 * 2**30 + 12345)
    assert blocks == 5120
    assert cache.num_tokens(blocks, 16384) == 5120 * 16
    assert cache.blocks_of_sequence(16384) == 1024
    assert cache.num_sequences(blocks, 16384) == 4  # of 5.0: one block stands for "nothing"
    assert cache.num_sequences(blocks + 1, 16384) == 5


def test_a_sliding_window_bounds_what_a_sequence_holds() -> None:
    cache = kv_cache_of(shape(MISTRAL_7B_V01), 2, 1, 16, 2 * 2048)
    assert cache.blocks_of_sequence(1024) == 1024 // 16 + 1
    assert cache.blocks_of_sequence(32768) == 512 + 1  # ceil((4096 - 1 + 4096) / 16) + 1
    assert cache.blocks_of_sequence(131072) == 513


def test_five_sliding_layers_to_a_full_one_share_blocks_in_groups_of_the_rarer_size() -> None:
    windows = (512, 512, 512, 512, 512, None) * 4
    cache = KvCache(1024, windows, 16, 2048)
    assert cache.layers_per_group == 4
    assert cache.block_bytes == 1024 * 4 * 16
    sliding = -(-(512 - 1 + 2048) // 16) + 1
    assert cache.blocks_of_sequence(8192) == 5 * sliding + 8192 // 16


def test_nearly_as_many_sliding_layers_as_full_ones_make_two_padded_groups() -> None:
    cache = KvCache(1024, (512,) * 12 + (None,) * 13, 16, 2048)
    assert cache.layers_per_group == 13
    assert [group.num_groups for group in cache.groups] == [1, 1]


def test_the_longest_sequence_is_the_last_that_fits() -> None:
    cache = kv_cache_of(shape(LLAMA_31_8B), 2, 1, 16, 4096)
    assert cache.longest_sequence(101, 4, 131072) == 25 * 16
    assert cache.longest_sequence(101, 101, 131072) == 0
    assert cache.longest_sequence(10**9, 1, 131072) == 131072


def test_layer_types_of_config_json_decide_which_layers_slide() -> None:
    types = ["sliding_attention", "full_attention"] * 16
    config = {**LLAMA_31_8B, "sliding_window": 1024, "layer_types": types}
    assert shape(config).windows == (1024, None) * 16


def test_qwen2_slides_only_where_it_is_told_to() -> None:
    assert set(shape(QWEN_25_05B).windows) == {None}
    sliding = shape({**QWEN_25_05B, "use_sliding_window": True})
    assert sliding.windows == (None,) * 21 + (32768,) * 3


@pytest.mark.parametrize(
    "extra",
    [
        {"kv_lora_rank": 512},
        {"layer_types": ["linear_attention"] * 32},
        {"layer_types": [{}] * 32},
        {"model_type": "qwen2", "sliding_window": 8, "max_window_layers": "x"},
        {"mamba_d_state": 16},
        {"sliding_window": 8, "layer_types": ["sliding_attention"]},
    ],
)
def test_a_cache_of_another_form_is_refused(extra: dict[str, object]) -> None:
    with pytest.raises(CheckpointError):
        shape({**LLAMA_31_8B, **extra})
