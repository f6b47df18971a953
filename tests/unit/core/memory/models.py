"""Public config.json values of models that the memory tests compute by hand."""

from typing import Any

from app.core.checkpoint import Checkpoint, parse_architecture
from app.core.checkpoint_scheme import parse_scheme
from app.core.memory.shape import ModelShape, shape_of
from app.core.memory.tensors import expected_tensors

LLAMA_31_8B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "vocab_size": 128256,
    "torch_dtype": "bfloat16",
}
QWEN_25_05B = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32768,
    "max_window_layers": 21,
    "sliding_window": 32768,
    "use_sliding_window": False,
    "tie_word_embeddings": True,
    "vocab_size": 151936,
    "torch_dtype": "bfloat16",
}
MISTRAL_7B_V01 = {
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 32768,
    "sliding_window": 4096,
    "vocab_size": 32000,
    "torch_dtype": "bfloat16",
}


def eight_bits(kind: str, strategy: str, dynamic: bool) -> dict[str, Any]:
    return {
        "num_bits": 8,
        "type": kind,
        "strategy": strategy,
        "symmetric": True,
        "dynamic": dynamic,
    }


def quantized(config: dict[str, Any], kind: str = "int") -> dict[str, Any]:
    group = {
        "targets": ["Linear"],
        "weights": eight_bits(kind, "channel", dynamic=False),
        "input_activations": eight_bits(kind, "token", dynamic=True),
    }
    return {
        **config,
        "quantization_config": {
            "quant_method": "compressed-tensors",
            "config_groups": {"group_0": group},
            "ignore": ["lm_head"],
        },
    }


def shape(config: dict[str, Any]) -> ModelShape:
    architecture, scheme = parse_architecture(config, "test"), parse_scheme(config, "test")
    tensors = expected_tensors(architecture, scheme)
    return shape_of(Checkpoint("test", architecture, scheme, (), tensors), config)
