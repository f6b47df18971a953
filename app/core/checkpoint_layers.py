"""The linear layers of a checkpoint: each weight with what belongs to it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from app.core.checkpoint import Checkpoint
from app.core.checkpoint_header import Tensor

# What a stored dtype says of a weight. Packed formats (int32, uint8) hold several values in one.
WEIGHT_KINDS = {
    "I8": "int8",
    "F8_E4M3": "fp8",
    "BF16": "16 bit",
    "F16": "16 bit",
    "F32": "32 bit",
}
PACKED = "packed"
QUANTIZED_KINDS = {"int8", "fp8", PACKED}
WEIGHT_NAMES = ("weight", "weight_packed", "qweight")
SCALE_NAMES = ("weight_scale", "weight_scale_inv", "scales")

# A pattern of an ignore list is a stranger's regular expression. One without a repeated group, and
# with few repetitions, cannot take exponentially long.
REPEATED_GROUP = re.compile(r"\)\s*[*+?{]")
MAX_REPETITIONS = 4
LAYER_NUMBER = re.compile(r"\.(?:layers|h)\.(\d{1,5})\.")  # GPT-2, Falcon: `h`


@dataclass(frozen=True, slots=True)
class Layer:
    name: str
    weight: Tensor
    scale: Tensor | None
    input_scale: Tensor | None
    zero_point: Tensor | None

    @property
    def kind(self) -> str:
        return WEIGHT_KINDS.get(self.weight.dtype, PACKED)

    @property
    def is_quantized(self) -> bool:
        return self.kind in QUANTIZED_KINDS

    @property
    def is_embedding(self) -> bool:
        return "embed" in self.name.rpartition(".")[2]

    @property
    def number(self) -> int | None:
        """7 for `model.layers.7.mlp.up_proj`."""
        found = LAYER_NUMBER.search(f".{self.name}.")
        return int(found[1]) if found else None


def list_layers(checkpoint: Checkpoint) -> list[Layer]:
    """Every module with a matrix, in the checkpoint's order of names."""
    tensors = {tensor.name: tensor for tensor in checkpoint.tensors}
    return sorted(find_layers(tensors), key=lambda layer: natural_key(layer.name))


def find_layers(tensors: dict[str, Tensor]) -> Iterator[Layer]:
    for name, tensor in tensors.items():
        module, _, kind = name.rpartition(".")
        if kind in WEIGHT_NAMES and len(tensor.shape) >= 2:
            scales = (tensors.get(f"{module}.{scale}") for scale in SCALE_NAMES)
            yield Layer(
                module,
                tensor,
                next((scale for scale in scales if scale is not None), None),
                tensors.get(f"{module}.input_scale"),
                tensors.get(f"{module}.weight_zero_point"),
            )


def natural_key(name: str) -> tuple[tuple[int, str], ...]:
    """Sorts `layers.10` after `layers.9`."""
    return tuple((int(part), "") if part.isdecimal() else (0, part) for part in name.split("."))


def is_ignored(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether an ignore list leaves a module unquantized. Patterns too complex match nothing."""
    return any(matches(name, pattern) for pattern in patterns)


def matches(name: str, pattern: str) -> bool:
    if not pattern.startswith("re:"):
        return name == pattern or name.endswith(f".{pattern}")
    expression = pattern.removeprefix("re:")
    try:
        return is_simple(expression) and re.match(expression, name) is not None
    except re.error:
        return False


def is_simple(expression: str) -> bool:
    num_repetitions = sum(expression.count(sign) for sign in "*+{?")
    return num_repetitions <= MAX_REPETITIONS and not REPEATED_GROUP.search(expression)
