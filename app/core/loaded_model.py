"""What the engine really loaded, and whether that is what was asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.core.errors import StartError

# vLLM's scheme class for each kind of checkpoint that a profile can ask for.
SCHEME_CLASSES = {
    "w8a8-int8": frozenset({"CompressedTensorsW8A8Int8"}),
    "fp8": frozenset({"CompressedTensorsW8A8Fp8", "Fp8LinearMethod"}),
    "unquantized": frozenset({"UnquantizedLinearMethod"}),
}
# A scheme class does not say that its kernel multiplies in eight bits; the kernel's name does.
KERNEL_MARKS = {"w8a8-int8": "Int8", "fp8": "FP8"}


@dataclass(frozen=True)
class LoadedModel:
    """`layers`: number of linear layers by "scheme class/kernel class", as the workers report.

    `gpu_memory`: vLLM's account of the first GPU, in bytes (app/engine/loaded_memory.py); empty on
    the CPU.
    """

    layers: Mapping[str, int]
    head: str
    parameter_bytes: int
    num_workers: int
    max_model_len: int
    max_num_seqs: int
    num_kv_blocks: int
    kv_block_tokens: int
    gpu_memory: Mapping[str, int] = field(default_factory=dict)

    @property
    def num_kv_tokens(self) -> int:
        return self.num_kv_blocks * self.kv_block_tokens

    @property
    def scheme(self) -> str:
        """The kind of most layers, by our names; the class's own name where we have none."""
        first = self._most_common().partition("/")[0]
        return next((kind for kind, names in SCHEME_CLASSES.items() if first in names), first)

    @property
    def kernel(self) -> str:
        """The kernel class of most layers."""
        return self._most_common().partition("/")[2]

    def _most_common(self) -> str:
        return max(self.layers, key=lambda name: self.layers[name], default="none/none")


def refuse_other_scheme(model: LoadedModel, wanted: str) -> None:
    """Raises StartError unless every linear layer runs as `wanted` says, on a kernel for it."""
    mark = KERNEL_MARKS.get(wanted, "")
    for pair in model.layers:
        scheme, _, kernel = pair.partition("/")
        if scheme not in SCHEME_CLASSES[wanted] or mark.lower() not in kernel.lower():
            raise StartError(
                f"model.scheme is {wanted}, but vLLM runs {model.layers[pair]} layers as {scheme} "
                f"on {kernel}; choose a {wanted} checkpoint and a GPU with such a kernel, or set "
                f"model.allow_unquantized."
            )
    if not model.layers:
        raise StartError(f"model.scheme is {wanted}, but no linear layer was found in the model.")
