"""Mixed into vLLM's worker: what has to be said or done inside the worker process.

vLLM only logs which kernel it chose, and refuses a callable through `collective_rpc`; a method of a
worker extension is called by name.
"""

from collections import Counter
from typing import Any

from vllm.model_executor.layers.linear import LinearBase
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

from app.engine.crashes import end_at_once_on_crash
from app.engine.loaded_memory import count_parameter_bytes, read_gpu_memory


class WorkerExtension:
    """Methods become methods of the worker; none may have a name that the worker has."""

    model_runner: Any

    def end_worker_at_once_on_crash(self) -> None:
        """In the worker's main thread, as all that is called by name."""
        end_at_once_on_crash()

    def report_loaded_model(self) -> dict[str, Any]:
        """Counts of linear layers by scheme and kernel class, the head's, and parameter bytes."""
        model = self.model_runner.get_model()
        layers: Counter[str] = Counter()
        head = ""
        for module in model.modules():
            if isinstance(module, ParallelLMHead):
                head = type(module.quant_method).__name__
            elif isinstance(module, LinearBase):
                layers["/".join(scheme_and_kernel(module))] += 1
        return {
            "layers": dict(layers),
            "head": head,
            "parameter_bytes": count_parameter_bytes(model),
            "gpu_memory": read_gpu_memory(self),
        }


def scheme_and_kernel(layer: Any) -> tuple[str, str]:
    """The classes that quantize a layer and multiply for it, as vLLM named them."""
    scheme = getattr(layer, "scheme", None) or layer.quant_method
    kernel = getattr(scheme, "kernel", None) or getattr(scheme, "fp8_linear", None)
    return type(scheme).__name__, type(kernel).__name__ if kernel is not None else "none"
