"""What a worker holds in memory, counted from inside it."""

from typing import Any

from vllm.model_executor.layers.linear import LinearBase


def count_parameter_bytes(model: Any) -> int:
    """The loaded parameters, each storage once.

    The CPU's kernels keep a matrix in a layout of their own and leave an empty parameter: it is
    counted by its shape, in the type it had.
    """
    own: int = sum(parameter.nbytes for parameter in model.parameters())
    return own + sum(packed_bytes(layer) for layer in model.modules())


def packed_bytes(layer: Any) -> int:
    """Bytes of a linear layer's matrix that only the CPU's kernel holds; 0 for any other."""
    if not isinstance(layer, LinearBase):
        return 0
    weight = getattr(layer, "weight", None)
    if weight is not None and weight.numel():
        return 0
    item_bytes = 1 if weight is None else weight.element_size()  # only int8 ones become None
    rows, columns = layer.output_size_per_partition, layer.input_size_per_partition
    return int(rows * columns * item_bytes)


def read_gpu_memory(worker: Any) -> dict[str, int]:
    """vLLM's own account of a GPU, in bytes; empty on the CPU, where it keeps none.

    `consumed` is what it took of the card for weights and runtime, `peak` the most that a step
    takes beside it (with the graphs that were estimated), `kv_available` what is left. Ours:
    `total`, the card as CUDA sees it, and `held`, what of it is gone now that everything is
    loaded, the KV cache and the captured graphs included.
    """
    names = {
        "consumed": "total_consumed",
        "peak": "peak_activation_memory",
        "graphs": "cudagraph_memory_estimate",
        "kv_available": "available_kv_cache_memory_bytes",
    }
    account = {
        name: int(getattr(worker, attribute))
        for name, attribute in names.items()
        if hasattr(worker, attribute)
    }
    return {**account, **read_card(worker)} if account else {}


def read_card(worker: Any) -> dict[str, int]:
    import torch

    before = worker.init_snapshot
    free, total = torch.cuda.mem_get_info(worker.device)
    return {"total": int(total), "held": int(before.free_memory - free)}
