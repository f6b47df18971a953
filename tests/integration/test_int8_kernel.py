"""vLLM's int8 matrix product against its definition in integers, on real layers and on random ones
of Llama-8B's sizes: on the CPU's kernel everywhere, on CUTLASS where there is a GPU."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.core.llama_shape import LLAMA_8B
from app.core.number_arguments import read_numbers
from app.engine.int8_command import ROWS
from app.engine.int8_product import (
    Int8Kernel,
    Layer,
    compare,
    make_inputs,
    random_layer,
    reference,
)

ROOT = Path(__file__).parents[2]
CHECKPOINT = ROOT / "models" / "bundled" / "w8a8" / "model.safetensors"
LAYERS = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "output": ("self_attn.o_proj",),
    "gate and up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
KERNELS = {"cpu": "CPUInt8ScaledMMLinearKernel", "cuda": "CutlassInt8ScaledMMLinearKernel"}
# A CPU takes minutes for what a GPU does at once.
LLAMA_ROWS = {"cpu": [1, 64], "cuda": read_numbers(ROWS, "--rows")}

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


def read_layer(names: tuple[str, ...]) -> Layer:
    """Layers of the bundled model that are computed as one."""
    import torch
    from safetensors import safe_open

    with safe_open(CHECKPOINT, "pt") as shard:
        tensors = [
            [shard.get_tensor(f"model.layers.1.{name}.{kind}") for name in names]
            for kind in ("weight", "weight_scale")
        ]
    weight, scale = (torch.cat(parts) for parts in tensors)
    return Layer(weight, scale.float(), [len(part) for part in tensors[0]])


@pytest.mark.parametrize("rows", [1, 7, 64])
@pytest.mark.parametrize("name", LAYERS)
def test_the_int8_product_is_the_integer_one_within_the_outputs_rounding(
    device: str, dtype: Any, name: str, rows: int
) -> None:
    import torch

    layer = read_layer(LAYERS[name])
    x = make_inputs(rows, layer.weight.shape[1], dtype, device)
    kernel = Int8Kernel(layer, device)
    found = compare(x, layer, kernel)
    assert kernel.multiply(x).dtype == dtype
    assert (found.kernel, found.num_wrong) == (KERNELS[device], 0), found
    assert found.num_outputs == rows * len(layer.weight)
    # The same check fails for a layer whose scales are in another order.
    shuffled = layer.scale[torch.randperm(len(layer.scale))]
    assert compare(x, Layer(layer.weight, shuffled, layer.widths), kernel).num_wrong


@pytest.mark.parametrize("dtype", ["bfloat16"], indirect=True)
@pytest.mark.parametrize("name", LLAMA_8B.products)
def test_it_is_on_all_of_llama_8bs_sizes(device: str, dtype: Any, name: str) -> None:
    widths, inputs = LLAMA_8B.products[name]
    layer = random_layer(widths, inputs, device)
    kernel = Int8Kernel(layer, device)
    for rows in LLAMA_ROWS[device]:
        found = compare(make_inputs(rows, inputs, dtype, device), layer, kernel)
        assert (found.kernel, found.num_wrong) == (KERNELS[device], 0), (rows, found)


def test_a_token_of_zeros_stays_zero(device: str, dtype: Any) -> None:
    import torch

    layer = read_layer(LAYERS["down"])
    x = torch.zeros(2, layer.weight.shape[1], dtype=dtype, device=device)
    assert bool((Int8Kernel(layer, device).multiply(x) == 0).all())


def test_the_references_float64_is_exact() -> None:
    """Against the definition in 64-bit integers, on the longest sums that Llama-8B has."""
    import torch

    layer = random_layer([8], LLAMA_8B.intermediate_size, "cpu")
    x = make_inputs(4, LLAMA_8B.intermediate_size, torch.float32)
    a_scale = x.double().abs().amax(1, keepdim=True) / 127
    a = (x.double() / a_scale).round().to(torch.int64)
    assert a.abs().max() == 127
    sums = a @ layer.weight.to(torch.int64).T
    expected = a_scale * layer.scale.double().T * sums.double()
    assert torch.equal(reference(x, layer), expected)
    with pytest.raises(ValueError, match="not exact"):
        reference(torch.empty(1, 2**40, device="meta"), layer)
