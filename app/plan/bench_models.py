"""Made-up models and settings on which the plan is held against the engine."""

from dataclasses import dataclass, field, replace
from typing import Any

MIB = 2**20
# What all share unless they say otherwise: a small Llama with grouped-query attention.
BASE: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "vocab_size": 4096,
    "max_position_embeddings": 32768,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "torch_dtype": "bfloat16",
}
LLAMA_8B = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
}


@dataclass(frozen=True, slots=True)
class Combination:
    """A model's config.json and the engine's settings; `kv_bytes` is fixed on the CPU only."""

    name: str
    config: dict[str, Any] = field(default_factory=dict)
    is_w8a8: bool = True
    max_model_len: int = 2048
    max_num_seqs: int = 16
    max_num_batched_tokens: int = 2048
    kv_cache_dtype: str = "auto"
    kv_bytes: int = 100 * MIB
    is_large: bool = False

    @property
    def config_json(self) -> dict[str, Any]:
        config = {**BASE, **self.config}
        return {**config, "quantization_config": W8A8} if self.is_w8a8 else config


def eight_bits(strategy: str, dynamic: bool) -> dict[str, Any]:
    said = {"num_bits": 8, "type": "int", "symmetric": True}
    return {**said, "strategy": strategy, "dynamic": dynamic}


W8A8 = {
    "quant_method": "compressed-tensors",
    "format": "int-quantized",
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": eight_bits("channel", dynamic=False),
            "input_activations": eight_bits("token", dynamic=True),
        }
    },
    "ignore": ["lm_head"],
}
QWEN2 = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
QWEN3 = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}
MISTRAL = {"architectures": ["MistralForCausalLM"], "model_type": "mistral"}
MANY_HEADS = {"hidden_size": 512, "num_attention_heads": 8, "num_hidden_layers": 8}
SLIDING_THREE_TO_ONE = [*["sliding_attention"] * 3, "full_attention"]

SMALL = Combination("gqa-w8a8")
COMBINATIONS = (
    SMALL,
    replace(SMALL, name="gqa-bf16", is_w8a8=False),
    replace(SMALL, name="long-context", max_model_len=32768, kv_bytes=333 * MIB + 12345),
    replace(SMALL, name="many-sequences", max_num_seqs=256, max_model_len=512),
    replace(SMALL, name="fp8-kv", kv_cache_dtype="fp8"),
    Combination("mha-w8a8", {**MANY_HEADS, "num_key_value_heads": 8, "vocab_size": 32000}),
    Combination("mqa-bf16", {**MANY_HEADS, "num_key_value_heads": 1}, is_w8a8=False),
    Combination(
        "tied-odd-vocabulary-w8a8",
        {"hidden_size": 1024, "num_attention_heads": 16, "num_key_value_heads": 4}
        | {"num_hidden_layers": 2, "vocab_size": 50257, "tie_word_embeddings": True},
    ),
    Combination(
        "deep-bf16",
        {"num_hidden_layers": 16, "vocab_size": 10007},
        is_w8a8=False,
        kv_bytes=77 * MIB,
    ),
    Combination("qwen2-biases-w8a8", {**QWEN2, "hidden_size": 384, "num_attention_heads": 6}),
    Combination("qwen3-norms-bf16", {**QWEN3, "head_dim": 128}, is_w8a8=False),
    Combination(
        "mistral-sliding-w8a8",
        {**MISTRAL, "sliding_window": 512},
        max_model_len=16384,
        max_num_batched_tokens=1024,
    ),
    Combination(
        "sliding-3-to-1-w8a8",
        {"sliding_window": 512, "layer_types": SLIDING_THREE_TO_ONE * 2, "num_hidden_layers": 8},
        max_model_len=16384,
        max_num_batched_tokens=1024,
    ),
    Combination(
        "wide-w8a8",
        {"hidden_size": 2048, "intermediate_size": 5632, "num_attention_heads": 32}
        | {"num_key_value_heads": 8, "vocab_size": 32000},
        kv_bytes=500 * MIB,
    ),
    Combination(
        "bundled-w8a8",
        {"intermediate_size": 512, "vocab_size": 1024, "max_position_embeddings": 131072},
        max_model_len=4096,
        max_num_seqs=64,
        kv_bytes=1024 * MIB,
    ),
    Combination(
        "llama-8b-w8a8",
        LLAMA_8B,
        max_model_len=16384,
        max_num_seqs=64,
        is_large=True,
    ),
    Combination(
        "llama-8b-w8a8-large-steps",
        LLAMA_8B,
        max_model_len=32768,
        max_num_seqs=256,
        max_num_batched_tokens=8192,
        is_large=True,
    ),
    Combination(
        "llama-8b-bf16",
        LLAMA_8B,
        is_w8a8=False,
        max_model_len=8192,
        max_num_seqs=32,
        is_large=True,
    ),
)
