"""A checkpoint of a Llama's shape with random weights: for speed and memory, not for sense.

Values are drawn as a real model's are distributed, normally, and the layers differ in nothing but
their place. Never zeros: a GPU draws less power on them and runs faster than on real weights.
The eight-bit forms are what llm-compressor writes and vLLM's compressed-tensors loader takes.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.core.errors import AppError
from app.core.llama_shape import LlamaShape

Codes = NDArray[Any]
KINDS = ("bf16", "int8", "fp8")
DTYPES = {"bf16": "BF16", "int8": "I8", "fp8": "F8_E4M3"}
SPREAD = 0.02  # the standard deviation that Llama's matrices are initialized with
# The largest of some thousand normal values is about four standard deviations away.
LARGEST = {"int8": 127.0, "fp8": 448.0}
DEVIATIONS = 4
TOKENIZER = Path(__file__).parents[3] / "models" / "bundled" / "bf16"
TOKENIZER_FILES = ("tokenizer_config.json", "chat_template.jinja")


class CheckpointSizeError(AppError):
    """A shape that the tokenizer does not go with."""


def write_checkpoint(folder: Path, shape: LlamaShape, kind: str, seed: int = 0) -> Path:
    """Unless it is there already. `folder` appears only when the checkpoint is complete."""
    if folder.exists():
        return folder
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write_json(partial / "config.json", config_json(shape, kind))
    write_tokenizer(partial, shape.vocab_size)
    write_weights(partial, shape, kind, np.random.default_rng(seed))
    partial.rename(folder)
    return folder


def config_json(shape: LlamaShape, kind: str) -> dict[str, Any]:
    config = shape.config_json()
    return config if kind == "bf16" else {**config, "quantization_config": quantization(kind)}


def quantization(kind: str) -> dict[str, Any]:
    number = {"num_bits": 8, "type": "int" if kind == "int8" else "float", "symmetric": True}
    return {
        "quant_method": "compressed-tensors",
        "format": "int-quantized" if kind == "int8" else "float-quantized",
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {**number, "strategy": "channel", "dynamic": False},
                "input_activations": {**number, "strategy": "token", "dynamic": True},
            }
        },
    }


def write_tokenizer(folder: Path, vocab_size: int) -> None:
    """The bundled model's, with a made-up word for every further token, so that whatever a random
    model says is text. Answers are greedy unless a request says otherwise."""
    tokenizer = json.loads((TOKENIZER / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    taken = {*vocabulary.values(), *(token["id"] for token in tokenizer["added_tokens"])}
    if max(taken) >= vocab_size:
        raise CheckpointSizeError(f"A vocabulary of {vocab_size} is too small for the tokenizer.")
    # "\u0120" is how a byte-level tokenizer writes a space.
    vocabulary |= {f"\u0120w{token}": token for token in range(vocab_size) if token not in taken}
    write_json(folder / "tokenizer.json", tokenizer)
    for name in TOKENIZER_FILES:
        shutil.copy(TOKENIZER / name, folder / name)
    generation = json.loads((TOKENIZER / "generation_config.json").read_text(encoding="utf-8"))
    write_json(folder / "generation_config.json", {**generation, "temperature": 0.0})


def write_weights(folder: Path, shape: LlamaShape, kind: str, dice: np.random.Generator) -> None:
    places: dict[str, str] = {}
    table = normal_codes("bf16")
    ends = {
        f"{name}.weight": ("BF16", draw(table, (shape.vocab_size, shape.hidden_size), dice))
        for name in ("model.embed_tokens", "lm_head")
    }
    ends["model.norm.weight"] = ("BF16", ones(shape.hidden_size))
    write_shard(folder / "ends.safetensors", ends, places)
    layer = dict(draw_layer(shape, kind, dice))
    for number in range(shape.num_layers):
        tensors = {f"model.layers.{number}.{name}": tensor for name, tensor in layer.items()}
        write_shard(folder / f"layer-{number:03}.safetensors", tensors, places)
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": places})


def draw_layer(
    shape: LlamaShape, kind: str, dice: np.random.Generator
) -> Iterator[tuple[str, tuple[str, Codes]]]:
    table = normal_codes(kind)
    for name, size in shape.matrices.items():
        yield f"{name}.weight", (DTYPES[kind], draw(table, size, dice))
        if kind != "bf16":
            scales = SPREAD * DEVIATIONS / LARGEST[kind] * dice.uniform(0.5, 1.5, (size[0], 1))
            yield f"{name}.weight_scale", ("BF16", bf16_codes(scales))
    for name in ("input_layernorm", "post_attention_layernorm"):
        yield f"{name}.weight", ("BF16", ones(shape.hidden_size))


def draw(table: Codes, size: tuple[int, int], dice: np.random.Generator) -> Codes:
    return table[dice.integers(0, len(table), size, dtype=np.uint16)]


def normal_codes(kind: str) -> Codes:
    """65,536 values at even quantiles of a normal distribution, each as the type's bits: a value
    drawn from this table costs one random number and one look-up."""
    normal = NormalDist()
    count = 2**16
    values = np.array([normal.inv_cdf((index + 0.5) / count) for index in range(count)])
    if kind == "bf16":
        return bf16_codes(values * SPREAD)
    largest = LARGEST[kind]
    scaled = np.clip(values * largest / DEVIATIONS, -largest, largest)
    return np.rint(scaled).astype(np.int8) if kind == "int8" else e4m3_codes(scaled)


def bf16_codes(values: Codes) -> Codes:
    """bfloat16 is the upper half of float32."""
    return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


def e4m3_codes(values: Codes) -> Codes:
    """The nearest below in magnitude; 0x7f and 0xff, which are no numbers, never come up."""
    codes = np.searchsorted(e4m3_magnitudes(), np.abs(values), side="right") - 1
    signed: Codes = codes + np.where(values < 0, 0x80, 0)
    return signed.astype(np.uint8)


def e4m3_magnitudes() -> Codes:
    """What the codes 0 to 126 of E4M3 stand for (Micikevicius et al., arXiv 2209.05433)."""
    codes = np.arange(0x7F)
    exponents, mantissas = codes >> 3, codes & 7
    normal = (1 + mantissas / 8) * 2.0 ** (exponents - 7)
    return np.where(exponents == 0, mantissas / 8 * 2.0**-6, normal)


def ones(size: int) -> Codes:
    return bf16_codes(np.ones(size))


def write_shard(path: Path, tensors: dict[str, tuple[str, Codes]], places: dict[str, str]) -> None:
    """Safetensors' layout: see app/core/checkpoint_header.py. Notes in `places` what is where."""
    header: dict[str, Any] = {}
    start = 0
    for name, (dtype, codes) in tensors.items():
        offsets = [start, start + codes.nbytes]
        header[name] = {"dtype": dtype, "shape": codes.shape, "data_offsets": offsets}
        start = offsets[1]
        places[name] = path.name
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)  # the data are aligned
    with path.open("wb") as shard:
        shard.write(len(raw).to_bytes(8, "little") + raw)
        for _, codes in tensors.values():
            codes.tofile(shard)


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
