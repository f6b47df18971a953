"""vLLM's int8 matrix product against a reference in integers, on real layers.

    D[m, n] = a_scale[m] * b_scale[n] * sum_k(a[m, k] * b[n, k])

with `a_scale[m] = max_k |x[m, k]| / 127` and `a[m, k] = round(x[m, k] / a_scale[m])`: the sum is
exact in the reference, so the kernel may differ by the rounding of its output type and no more.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CHECKPOINT = ROOT / "models" / "bundled" / "w8a8" / "model.safetensors"
LAYERS = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "output": ("self_attn.o_proj",),
    "gate and up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
# A value of 8 significant bits (bfloat16) or 24 (float32) is off by half of its last one; the
# product of two float32 scales and a converted sum by a few more of 24.
OUTPUT_ERROR = {"bfloat16": 2.0**-8 + 2.0**-20, "float32": 2.0**-20}
KERNELS = {"cpu": "CPUInt8ScaledMMLinearKernel", "cuda": "CutlassInt8ScaledMMLinearKernel"}

# vLLM and torch raise deprecation warnings of their own when they are imported.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module", params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> str:
    from vllm.platforms import current_platform

    if current_platform.device_type != request.param:
        pytest.skip(f"this is vLLM's {current_platform.device_type} build, on such a machine")
    return str(request.param)


@pytest.fixture(params=["bfloat16", "float32"])
def dtype(request: pytest.FixtureRequest, device: str) -> Iterator[Any]:
    """The layer's output type; vLLM's kernels take it from torch's default."""
    import torch

    if (device, request.param) == ("cuda", "float32"):
        pytest.skip("CUTLASS writes 16 bit only")
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, request.param))
    yield getattr(torch, request.param)
    torch.set_default_dtype(before)


def read_layer(names: tuple[str, ...]) -> tuple[Any, Any, list[int]]:
    """The int8 weights (N, K) and scales (N, 1) of layers that are computed as one, and the N of
    each."""
    import torch
    from safetensors import safe_open

    with safe_open(CHECKPOINT, "pt") as shard:
        tensors = [
            [shard.get_tensor(f"model.layers.1.{name}.{kind}") for name in names]
            for kind in ("weight", "weight_scale")
        ]
    weight, scale = (torch.cat(parts) for parts in tensors)
    return weight, scale.float(), [len(part) for part in tensors[0]]


def make_inputs(rows: int, width: int, dtype: Any) -> Any:
    """Rows of very different size, with outliers, and none of whose values rounds to the nearest
    int8 by less than a hundredth: which way a tie goes is the kernel's affair."""
    import torch

    torch.manual_seed(rows)
    x = torch.randn(rows, width, dtype=torch.float32) * torch.logspace(-2, 2, rows)[:, None]
    x[:, 3] *= 20
    x = x.to(dtype)
    ratio = x.double() / (x.double().abs().amax(1, keepdim=True) / 127)
    near_a_tie = ((ratio - ratio.floor()) - 0.5).abs() < 0.01
    return torch.where(near_a_tie, torch.zeros_like(x), x)


def run_kernel(x: Any, weight: Any, scale: Any, widths: list[int], device: str) -> Any:
    """What vLLM computes of `x`, with the kernel that it chooses itself."""
    import torch
    from vllm.model_executor.kernels.linear import init_int8_linear_kernel

    kernel = init_int8_linear_kernel(
        is_channelwise=True, is_static_input_scheme=False, input_symmetric=True, module_name="test"
    )
    assert type(kernel).__name__ == KERNELS[device]
    layer = torch.nn.Module()
    layer.logical_widths = widths
    layer.bias = None
    for name, value in (("weight", weight), ("weight_scale", scale)):
        parameter = torch.nn.Parameter(value.clone().to(device), requires_grad=False)
        layer.register_parameter(name, parameter)
    for name in ("input_scale", "input_zero_point", "azp_adj"):
        layer.register_parameter(name, None)
    kernel.process_weights_after_loading(layer)
    return kernel.apply_weights(layer, x.to(device), None).cpu()


def reference(x: Any, weight: Any, scale: Any) -> Any:
    """In int64 and float64."""
    import torch

    a_scale = x.double().abs().amax(1, keepdim=True) / 127
    a = (x.double() / a_scale).round().to(torch.int64)
    assert a.abs().max() == 127
    return a_scale * scale.double().T * (a @ weight.to(torch.int64).T).double()


@pytest.mark.parametrize("rows", [1, 7, 64])
@pytest.mark.parametrize("name", LAYERS)
def test_the_int8_product_is_the_integer_one_within_the_outputs_rounding(
    device: str, dtype: Any, name: str, rows: int
) -> None:
    import torch

    weight, scale, widths = read_layer(LAYERS[name])
    x = make_inputs(rows, weight.shape[1], dtype)
    expected = reference(x, weight, scale)
    found = run_kernel(x, weight, scale, widths, device)
    assert found.dtype == dtype
    error = (found.double() - expected).abs()
    allowed = expected.abs() * OUTPUT_ERROR[str(dtype).removeprefix("torch.")]
    assert bool((error <= allowed).all()), (error / expected.abs().clamp_min(1e-30)).max()
    # The same check fails for a layer whose scales are in another order.
    shuffled = reference(x, weight, scale[torch.randperm(len(scale))])
    assert not bool(((found.double() - shuffled).abs() <= allowed).all())


def test_a_token_of_zeros_stays_zero(device: str, dtype: Any) -> None:
    import torch

    weight, scale, widths = read_layer(LAYERS["down"])
    x = torch.zeros(2, weight.shape[1], dtype=dtype)
    found = run_kernel(x, weight, scale, widths, device)
    assert bool((found == 0).all())
