"""vLLM's int8 matrix product beside its definition, computed exactly.

    D[m, n] = a_scale[m] * b_scale[n] * sum_k(a[m, k] * b[n, k])

with `a_scale[m] = max_k |x[m, k]| / 127` and `a[m, k] = round(x[m, k] / a_scale[m])`. The sums are
exact in the reference, so the kernel may differ by the rounding of its output type and no more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# Float64 holds every integer up to 2**53, and a sum of K products is at most K * 127**2.
MAX_INPUTS = 2**53 // 127**2
# A value of 8 significant bits (bfloat16) or 24 (float32) is off by half of its last one; the
# product of two float32 scales and a converted sum by a few more of 24.
OUTPUT_ERROR = {"bfloat16": 2.0**-8 + 2.0**-20, "float32": 2.0**-20}
# Values of the reference that are held at once, in float64: 0.5 GiB for each of a few copies.
MAX_VALUES_AT_ONCE = 2**26


@dataclass(frozen=True)
class Layer:
    """int8 weights (N, K), their scales (N, 1) in float32, and the N of each matrix in it."""

    weight: Any
    scale: Any
    widths: Sequence[int]


@dataclass(frozen=True, slots=True)
class Difference:
    """The kernel's class; the largest error of an output, relative to the exact one, and how large
    it may be; how many outputs are off by more."""

    kernel: str
    largest: float
    allowed: float
    num_wrong: int
    num_outputs: int


def random_layer(widths: Sequence[int], inputs: int, device: str, seed: int = 0) -> Layer:
    """Weights of all 255 values alike, and scales that differ by up to twenty times."""
    import torch

    dice = torch.Generator(device).manual_seed(seed)
    outputs = sum(widths)
    size = (outputs, inputs)
    weight = torch.randint(-127, 128, size, dtype=torch.int8, device=device, generator=dice)
    scale = torch.rand(outputs, 1, dtype=torch.float32, device=device, generator=dice)
    return Layer(weight, scale * 0.02 + 0.001, widths)


def make_inputs(rows: int, width: int, dtype: Any, device: str = "cpu") -> Any:
    """Rows of very different size, with outliers, and none of whose values rounds to the nearest
    int8 by less than a hundredth: which way a tie goes is the kernel's affair."""
    import torch

    dice = torch.Generator(device).manual_seed(rows)
    x = torch.randn(rows, width, dtype=torch.float32, device=device, generator=dice)
    x *= torch.logspace(-2, 2, rows, dtype=torch.float32, device=device)[:, None]
    x[:, 3] *= 20
    x = x.to(dtype)
    ratio = x.double() / (x.double().abs().amax(1, keepdim=True) / 127)
    near_a_tie = ((ratio - ratio.floor()) - 0.5).abs() < 0.01
    return torch.where(near_a_tie, torch.zeros_like(x), x)


class Int8Kernel:
    """The kernel that vLLM chooses on this machine, with the layer made ready for it."""

    def __init__(self, layer: Layer, device: str) -> None:
        import torch
        from vllm.model_executor.kernels.linear import init_int8_linear_kernel

        self._kernel = init_int8_linear_kernel(
            is_channelwise=True,
            is_static_input_scheme=False,
            input_symmetric=True,
            module_name="check",
        )
        self._module = torch.nn.Module()
        self._module.logical_widths = list(layer.widths)
        self._module.bias = None
        for name, value in (("weight", layer.weight), ("weight_scale", layer.scale)):
            parameter = torch.nn.Parameter(value.clone().to(device), requires_grad=False)
            self._module.register_parameter(name, parameter)
        for name in ("input_scale", "input_zero_point", "azp_adj"):
            self._module.register_parameter(name, None)
        self._kernel.process_weights_after_loading(self._module)

    @property
    def name(self) -> str:
        return type(self._kernel).__name__

    def multiply(self, x: Any) -> Any:
        return self._kernel.apply_weights(self._module, x, None)


def reference(x: Any, layer: Layer) -> Any:
    """In float64, on the device that `x` is on. Every sum in it is exact."""
    if x.shape[1] > MAX_INPUTS:
        raise ValueError(f"a sum over {x.shape[1]} products is not exact in float64")
    a_scale = x.double().abs().amax(1, keepdim=True) / 127
    a = (x.double() / a_scale).round()
    sums = a @ layer.weight.to(x.device).double().T
    return a_scale * layer.scale.to(x.device).double().T * sums


def compare(x: Any, layer: Layer, kernel: Int8Kernel) -> Difference:
    """All outputs for `x`; the reference is made for a part of the output channels at a time."""
    found = kernel.multiply(x)
    allowed = OUTPUT_ERROR[str(x.dtype).removeprefix("torch.")]
    largest, num_wrong = 0.0, 0
    for start, part in parts_of(layer, len(x)):
        expected = reference(x, part)
        error = (found[:, start : start + len(part.weight)].double() - expected).abs()
        num_wrong += int((~(error <= expected.abs() * allowed)).sum())
        largest = max(largest, float((error / expected.abs().clamp_min(1e-30)).max()))
    return Difference(kernel.name, largest, allowed, num_wrong, found.numel())


def parts_of(layer: Layer, rows: int) -> list[tuple[int, Layer]]:
    """Consecutive output channels, few enough for the reference to fit into memory; and where they
    begin."""
    outputs, inputs = layer.weight.shape
    size = max(1, MAX_VALUES_AT_ONCE // max(rows, inputs))
    return [
        (start, Layer(layer.weight[start : start + size], layer.scale[start : start + size], ()))
        for start in range(0, outputs, size)
    ]
