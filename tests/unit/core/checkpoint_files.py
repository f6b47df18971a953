"""Checkpoints written by hand, whole and damaged, for the tests that read them."""

import json
from pathlib import Path
from typing import Any

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "vocab_size": 96,
    "max_position_embeddings": 512,
    "dtype": "bfloat16",
    "tie_word_embeddings": False,
    "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
}
W8A8: dict[str, Any] = {
    "quant_method": "compressed-tensors",
    "format": "int-quantized",
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": True},
            "input_activations": {
                "num_bits": 8,
                "type": "int",
                "strategy": "token",
                "symmetric": True,
                "dynamic": True,
            },
        }
    },
    "ignore": ["lm_head"],
    "kv_cache_scheme": None,
}
LINEARS = {
    "self_attn.q_proj": (64, 64),
    "self_attn.k_proj": (32, 64),
    "self_attn.v_proj": (32, 64),
    "self_attn.o_proj": (64, 64),
    "mlp.gate_proj": (128, 64),
    "mlp.up_proj": (128, 64),
    "mlp.down_proj": (64, 128),
}
ITEM_BYTES = {"BF16": 2, "I8": 1, "F8_E4M3": 1, "F32": 4}

Tensors = dict[str, tuple[str, tuple[int, ...]]]


def layer_tensors(layer: int, quantized: bool) -> Tensors:
    prefix = f"model.layers.{layer}."
    tensors: Tensors = {
        f"{prefix}input_layernorm.weight": ("BF16", (64,)),
        f"{prefix}post_attention_layernorm.weight": ("BF16", (64,)),
    }
    for name, shape in LINEARS.items():
        tensors[f"{prefix}{name}.weight"] = ("I8" if quantized else "BF16", shape)
        if quantized:
            tensors[f"{prefix}{name}.weight_scale"] = ("BF16", (shape[0], 1))
    return tensors


def model_tensors(quantized: bool = True) -> Tensors:
    outer: Tensors = {
        "model.embed_tokens.weight": ("BF16", (96, 64)),
        "model.norm.weight": ("BF16", (64,)),
        "lm_head.weight": ("BF16", (96, 64)),
    }
    return outer | layer_tensors(0, quantized) | layer_tensors(1, quantized)


def header_of(tensors: Tensors) -> tuple[dict[str, Any], int]:
    header, position = {}, 0
    for name, (dtype, shape) in tensors.items():
        end = position + ITEM_BYTES[dtype]
        for size in shape:
            end = position + (end - position) * size
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, end]}
        position = end
    return header, position


def write_shard(path: Path, tensors: Tensors) -> None:
    header, num_bytes = header_of(tensors)
    write_raw_shard(path, json.dumps(header).encode(), num_bytes)


def write_raw_shard(path: Path, header: bytes, num_bytes: int) -> None:
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(num_bytes))


def write_checkpoint(directory: Path, tensors: Tensors | None = None, **changes: Any) -> Path:
    """A W8A8 checkpoint of one shard, full of zeros; `changes` replace keys of config.json."""
    directory.mkdir(parents=True, exist_ok=True)
    config = {**CONFIG, "quantization_config": W8A8, **changes}
    (directory / "config.json").write_text(json.dumps(config))
    write_shard(directory / "model.safetensors", tensors or model_tensors())
    return directory


def write_sharded(directory: Path) -> Path:
    """The same checkpoint in two shards with an index."""
    write_checkpoint(directory)
    (directory / "model.safetensors").unlink()
    first = layer_tensors(0, quantized=True)
    second = {name: kind for name, kind in model_tensors().items() if name not in first}
    weight_map: dict[str, str] = {}
    for number, tensors in enumerate((first, second), start=1):
        shard = f"model-0000{number}-of-00002.safetensors"
        write_shard(directory / shard, tensors)
        weight_map |= dict.fromkeys(tensors, shard)
    index = {"metadata": {}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    return directory
