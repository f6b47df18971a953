"""Weights as they lie in memory once loaded: by kind, for one GPU of those that share the model.

What differs from the file (vLLM 0.32.0, read in its source and checked by `make bench-memory`):
- rows of the embedding and the head are padded to a multiple of 64 (vocab_parallel_embedding.py);
- floating-point tensors take the serving dtype, whatever the file has;
- channel scales are float32 (schemes/compressed_tensors_w8a8_int8.py, .._fp8.py), and the CPU's
  int8 kernel keeps a second row of as many (kernels/linear/scaled_mm/cpu.py, azp_adj);
- a tied head is the embedding, even where the file has both.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil

from app.core.checkpoint_header import Tensor
from app.core.memory.shape import ModelShape

VOCAB_PADDING = 64
SCALE_BYTES = 4
KINDS = ("embedding", "output head", "attention", "mlp", "norms", "scales", "other")
FLOATS = {"F64", "F32", "F16", "BF16"}
COLUMN_PARALLEL = ("q_proj", "k_proj", "v_proj", "qkv_proj", "gate_proj", "up_proj", "gate_up_proj")
ROW_PARALLEL = ("o_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class Placement:
    """How a model is loaded: bytes of the serving dtype, GPUs that share it, the device."""

    dtype_bytes: int
    num_gpus: int = 1
    on_cpu: bool = False


def weights_by_kind(shape: ModelShape, placement: Placement) -> Mapping[str, int]:
    """Bytes on one GPU, by kind, in the order of KINDS; kinds without bytes are left out."""
    totals = dict.fromkeys(KINDS, 0)
    for tensor, count in loaded_tensors(shape):
        totals[kind_of(tensor.name)] += loaded_bytes(tensor, shape, placement) * count
    return {kind: num_bytes for kind, num_bytes in totals.items() if num_bytes}


def weights_at_16_bit(shape: ModelShape, placement: Placement) -> int:
    """Bytes of the same model before quantization."""
    return sum(
        part_of(tensor, shape, placement) * 2 * count
        for tensor, count in loaded_tensors(shape)
        if kind_of(tensor.name) != "scales"
    )


def loaded_tensors(shape: ModelShape) -> Iterator[tuple[Tensor, int]]:
    """One of each kind, and how many there are."""
    tied = shape.architecture.tied_embeddings
    for tensor, count in shape.tensor_kinds:
        if not (tied and kind_of(tensor.name) == "output head"):
            yield tensor, count


def kind_of(name: str) -> str:
    if name.endswith(("_scale", "_scale_inv", "_zero_point")):
        return "scales"
    if "embed_tokens" in name:
        return "embedding"
    if name.startswith("lm_head"):
        return "output head"
    if "norm" in name:
        return "norms"
    if "attn" in name or "attention" in name:
        return "attention"
    return "mlp" if ".mlp." in name or "experts" in name else "other"


def loaded_bytes(tensor: Tensor, shape: ModelShape, placement: Placement) -> int:
    values = part_of(tensor, shape, placement)
    if tensor.name.endswith(".weight_scale"):
        rows = 2 if placement.on_cpu and is_int8(tensor, shape) else 1
        return values * SCALE_BYTES * rows
    if tensor.dtype in FLOATS:
        return values * placement.dtype_bytes
    return ceil(values * tensor.num_bytes / max(tensor.num_values, 1))


def is_int8(scale: Tensor, shape: ModelShape) -> bool:
    weights = shape.scheme.weights
    return weights is not None and weights.type == "int" and scale.num_values > 1


def part_of(tensor: Tensor, shape: ModelShape, placement: Placement) -> int:
    """Values of a tensor that one GPU holds (Megatron's split, as vLLM does it)."""
    kind, num_gpus = kind_of(tensor.name), placement.num_gpus
    if kind in ("embedding", "output head") and len(tensor.shape) == 2:
        rows, columns = tensor.shape
        return ceil(rows / VOCAB_PADDING) * VOCAB_PADDING * columns // num_gpus
    module, _, leaf = tensor.name.rpartition(".")
    layer = module.rpartition(".")[2]
    if layer in ("k_proj", "v_proj"):  # a KV head is never split, only repeated
        num_gpus = min(num_gpus, shape.architecture.num_kv_heads)
    if layer in COLUMN_PARALLEL or "experts" in module:
        return ceil(tensor.num_values / num_gpus)
    if layer in ROW_PARALLEL and leaf == "weight":
        return ceil(tensor.num_values / num_gpus)
    return tensor.num_values
