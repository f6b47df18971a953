"""How a checkpoint is quantized: `quantization_config` of its config.json, read into values."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from app.core.errors import CheckpointError


class SchemeName(StrEnum):
    W8A8_INT8 = "w8a8-int8"
    FP8 = "fp8"
    UNQUANTIZED = "unquantized"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Quantized:
    """How one kind of tensor (weights, activations, the KV cache) is stored as fewer bits."""

    num_bits: int
    type: str  # "int" or "float"
    strategy: str  # "channel", "token", "tensor", "group", "block"
    symmetric: bool
    dynamic: bool

    def __str__(self) -> str:
        when = "dynamic" if self.dynamic else "static"
        symmetry = "symmetric" if self.symmetric else "asymmetric"
        return f"{self.type}{self.num_bits} per {self.strategy}, {symmetry}, {when}"


@dataclass(frozen=True, slots=True)
class Scheme:
    """`activations` is None where they stay 16 bit; `ignore` lists what is left unquantized."""

    name: SchemeName
    method: str | None = None  # quant_method: who wrote it and which loader of vLLM reads it
    format: str | None = None
    weights: Quantized | None = None
    activations: Quantized | None = None
    targets: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    kv_cache: Quantized | None = None

    def __str__(self) -> str:
        if self.weights is None:
            return f"{self.name}" if self.method is None else f"{self.name} ({self.method})"
        return f"{self.name} (weights {self.weights}; activations {self.activations or '16 bit'})"


UNQUANTIZED = Scheme(SchemeName.UNQUANTIZED)


def parse_scheme(config: dict[str, Any], where: str) -> Scheme:
    """The scheme that a config.json describes. Raises CheckpointError when it is malformed."""
    quantization = config.get("quantization_config") or config.get("compression_config")
    if quantization is None:
        return UNQUANTIZED
    if not isinstance(quantization, dict):
        raise CheckpointError(f"quantization_config of {where} is not an object.")
    method = str(quantization.get("quant_method") or "compressed-tensors")
    if method == "fp8":
        return parse_native_fp8(quantization)
    if method != "compressed-tensors":
        return Scheme(SchemeName.OTHER, method)
    return parse_compressed_tensors(quantization, where)


def parse_native_fp8(quantization: dict[str, Any]) -> Scheme:
    """`quant_method: fp8`, as DeepSeek and vLLM write it."""
    strategy = "block" if quantization.get("weight_block_size") else "tensor"
    dynamic = quantization.get("activation_scheme", "dynamic") == "dynamic"
    weights = Quantized(8, "float", strategy, symmetric=True, dynamic=False)
    activations = Quantized(8, "float", "tensor", symmetric=True, dynamic=dynamic)
    ignore = [quantization.get(key) for key in ("ignored_layers", "modules_to_not_convert")]
    return Scheme(
        SchemeName.FP8,
        "fp8",
        None,
        weights,
        activations,
        ("Linear",),
        tuple(name for names in ignore for name in strings(names)),
    )


def parse_compressed_tensors(quantization: dict[str, Any], where: str) -> Scheme:
    groups = list(config_groups(quantization.get("config_groups"), where))
    weights = {parse_quantized(group.get("weights"), where) for group in groups}
    activations = {parse_quantized(group.get("input_activations"), where) for group in groups}
    kinds = {(w, a) for w in weights for a in activations}
    one_kind = len(weights) == 1 and len(activations) == 1
    kind = kinds.pop() if one_kind else (None, None)
    return Scheme(
        name_scheme(*kind) if one_kind else SchemeName.OTHER,
        "compressed-tensors",
        str(quantization["format"]) if "format" in quantization else None,
        *kind,
        targets=tuple(target for group in groups for target in strings(group.get("targets"))),
        ignore=strings(quantization.get("ignore")),
        kv_cache=parse_quantized(quantization.get("kv_cache_scheme"), where),
    )


def config_groups(value: Any, where: str) -> Iterator[dict[str, Any]]:
    if not isinstance(value, dict) or not all(isinstance(one, dict) for one in value.values()):
        raise CheckpointError(f"quantization_config of {where} has no usable config_groups.")
    yield from value.values()


def parse_quantized(value: Any, where: str) -> Quantized | None:
    if value is None:
        return None
    if not isinstance(value, dict) or type(value.get("num_bits", 8)) is not int:
        raise CheckpointError(f"quantization_config of {where} has a malformed quantization.")
    return Quantized(
        num_bits=value.get("num_bits", 8),
        type=str(value.get("type", "int")),
        strategy=str(value.get("strategy") or "tensor"),
        symmetric=bool(value.get("symmetric", True)),
        dynamic=bool(value.get("dynamic", False)),
    )


def name_scheme(weights: Quantized | None, activations: Quantized | None) -> SchemeName:
    if weights is None or activations is None or (weights.num_bits, activations.num_bits) != (8, 8):
        return SchemeName.OTHER
    return {
        ("int", "int"): SchemeName.W8A8_INT8,
        ("float", "float"): SchemeName.FP8,
    }.get((weights.type, activations.type), SchemeName.OTHER)


def strings(value: Any) -> tuple[str, ...]:
    return tuple(str(one) for one in value) if isinstance(value, list) else ()
