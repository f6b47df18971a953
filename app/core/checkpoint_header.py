"""Safetensors headers: what tensors a file holds, without reading one of them.

The layout (huggingface/safetensors, README "Format"): eight bytes, little-endian, with the length
of the header; the header, a JSON object of `name: {dtype, shape, data_offsets}`; then the data, one
tensor after another without holes. Files come from strangers: every length is checked before it is
used, and nothing is allocated on a file's word.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any, TypeGuard

from app.core.errors import CheckpointError

PREFIX_BYTES = 8
# 140,000 tensors of a large mixture of experts need about this much, and they come in many shards.
MAX_HEADER_BYTES = 16 * 2**20
MAX_RANK = 8
MAX_NAME_CHARS = 512
MAX_DIMENSION = 2**40

ITEM_BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U16": 16,
    "I16": 16,
    "F16": 16,
    "BF16": 16,
    "U32": 32,
    "I32": 32,
    "F32": 32,
    "U64": 64,
    "I64": 64,
    "F64": 64,
    "C64": 64,
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a checkpoint; `start` and `num_bytes` place it within its file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    num_bytes: int
    shard: str
    start: int

    @property
    def num_values(self) -> int:
        return prod(self.shape)


def header_length(prefix: bytes, file_bytes: int, shard: str) -> int:
    """The header's length from a file's first eight bytes; refused when the file cannot hold it."""
    if len(prefix) < PREFIX_BYTES:
        raise CheckpointError(
            f"{shard} is truncated: {file_bytes} bytes are too few for a safetensors file."
        )
    length = int.from_bytes(prefix[:PREFIX_BYTES], "little")
    if length > MAX_HEADER_BYTES:
        raise CheckpointError(
            f"{shard} announces a header of {length} bytes; the most that is read is "
            f"{MAX_HEADER_BYTES}."
        )
    if PREFIX_BYTES + length > file_bytes:
        raise CheckpointError(
            f"{shard} is truncated: its header alone needs {PREFIX_BYTES + length} bytes and the "
            f"file has {file_bytes}."
        )
    return length


def parse_header(raw: bytes, file_bytes: int, shard: str) -> tuple[Tensor, ...]:
    """The tensors that a header names, in the order of their data.

    `raw` is the header without its length prefix, `file_bytes` the size of the whole file. Raises
    CheckpointError, naming the file, for anything that is not a whole and exact safetensors file.
    """
    start = PREFIX_BYTES + len(raw)
    entries = parse_json_object(raw, f"the header of {shard}")
    entries.pop("__metadata__", None)
    tensors = sorted(
        (parse_tensor(name, entry, shard, start) for name, entry in entries.items()),
        key=lambda tensor: (tensor.start, tensor.num_bytes),
    )
    check_layout(tensors, start, file_bytes, shard)
    return tuple(tensors)


def parse_json_object(raw: bytes, what: str) -> dict[str, Any]:
    """JSON from a stranger: an object without duplicate keys, or a CheckpointError."""
    try:
        value = json.loads(raw.decode(), object_pairs_hook=unique_pairs)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "it is nested too deeply"
        raise CheckpointError(f"{what} is not valid JSON: {reason[:120]}.") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{what} is not a JSON object.")
    return value


def unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise ValueError("a key is there twice")
    return unique


def parse_tensor(name: str, entry: Any, shard: str, data_start: int) -> Tensor:
    if not name or len(name) > MAX_NAME_CHARS or not name.isprintable():
        raise CheckpointError(f"{shard} names a tensor {name[:40]!r}, which cannot be a name.")
    fields: dict[str, Any] = entry if isinstance(entry, dict) else {}
    dtype, shape, offsets = (fields.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in ITEM_BITS:
        raise CheckpointError(f"{shard}: {name} has the unknown dtype {str(dtype)[:20]!r}.")
    if not is_shape(shape):
        raise CheckpointError(f"{shard}: {name} has a shape that cannot be: {str(shape)[:40]}.")
    if not is_range(offsets):
        raise CheckpointError(f"{shard}: {name} has data offsets that cannot be.")
    begin, end = offsets
    bits = prod(shape) * ITEM_BITS[dtype]
    if bits != (end - begin) * 8:
        raise CheckpointError(
            f"{shard}: {name} has {end - begin} bytes of data, and its shape {shape} of {dtype} "
            f"needs {-(-bits // 8)}."
        )
    return Tensor(name, dtype, tuple(shape), end - begin, shard, data_start + begin)


def is_shape(value: Any) -> TypeGuard[list[int]]:
    return (
        isinstance(value, list)
        and len(value) <= MAX_RANK
        and all(type(size) is int and 0 <= size <= MAX_DIMENSION for size in value)
    )


def is_range(value: Any) -> TypeGuard[list[int]]:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(type(offset) is int for offset in value)
        and 0 <= value[0] <= value[1]
    )


def check_layout(tensors: Iterable[Tensor], start: int, file_bytes: int, shard: str) -> None:
    """Each tensor begins where the one before ended, and the last one ends with the file."""
    position = start
    for tensor in tensors:
        if tensor.start != position:
            what = "overlaps the tensor before it" if tensor.start < position else "leaves a hole"
            raise CheckpointError(f"{shard}: {tensor.name} {what}.")
        position += tensor.num_bytes
    if position > file_bytes:
        raise CheckpointError(
            f"{shard} is truncated: its tensors need {position} bytes and the file has "
            f"{file_bytes}."
        )
    if position < file_bytes:
        raise CheckpointError(
            f"{shard} has {file_bytes - position} bytes after its last tensor that nothing names."
        )
