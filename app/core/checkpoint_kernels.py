"""Which of vLLM 0.32.0's matrix products runs a checkpoint, by generation of GPU.

Read in vllm/model_executor/kernels/linear/__init__.py (the candidates in their order) and in the
schemes of compressed-tensors (the lowest capability of each); the CPU's rows were run as well.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from app.core.checkpoint_scheme import Scheme, SchemeName
from app.core.gpus import FIRST_BF16, FIRST_FP8, FIRST_INT8, FIRST_WITHOUT_INT8

PLATFORMS = (
    ("CPU", None),
    ("Volta", (7, 0)),
    ("Turing", (7, 5)),
    ("Ampere", (8, 0)),
    ("Ada", (8, 9)),
    ("Hopper", (9, 0)),
    ("Blackwell", (10, 0)),
)

FP8_ON_CPU = "ChannelWiseTorchFP8ScaledMMLinearKernel"
FP8_ON_CUDA = "CutlassFP8ScaledMMLinearKernel"
FP8_BLOCK_ON_CUDA = "CutlassFp8BlockScaledMMKernel"

Capability = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`kernel` is None where vLLM has nothing that runs it there."""

    platform: str
    capability: Capability | None
    kernel: str | None
    note: str = ""


def judge(scheme: Scheme) -> Iterator[Verdict]:
    for platform, capability in PLATFORMS:
        kernel, note = choose_kernel(scheme, capability)
        if kernel is not None and capability is not None and capability < FIRST_BF16:
            note = "; ".join(filter(None, (note, "no bfloat16: serve with dtype float16")))
        yield Verdict(platform, capability, kernel, note)


def choose_kernel(scheme: Scheme, capability: Capability | None) -> tuple[str | None, str]:
    """The kernel and a remark; capability None is the CPU."""
    match scheme.name:
        case SchemeName.W8A8_INT8:
            return choose_int8(scheme, capability)
        case SchemeName.FP8:
            return choose_fp8(scheme, capability)
        case SchemeName.UNQUANTIZED:
            return choose_plain(capability)
    return None, "not a scheme that this gateway checks"


def choose_int8(scheme: Scheme, capability: Capability | None) -> tuple[str | None, str]:
    if scheme.weights is not None and not scheme.weights.symmetric:
        return None, "asymmetric weights"
    if capability is None:
        return "CPUInt8ScaledMMLinearKernel", ""
    if capability < FIRST_INT8:
        return None, "INT8 needs compute capability 7.5"
    if capability >= FIRST_WITHOUT_INT8:
        return None, "no INT8 path: use FP8"
    return "CutlassInt8ScaledMMLinearKernel", ""


def choose_fp8(scheme: Scheme, capability: Capability | None) -> tuple[str | None, str]:
    strategy = scheme.weights.strategy if scheme.weights else "tensor"
    if capability is None:
        in_blocks = (None, "block scales need AMX")
        return in_blocks if strategy == "block" else (FP8_ON_CPU, "slow: for tests")
    if capability < FIRST_INT8:
        return None, "FP8 needs compute capability 7.5 (weights only) or 8.9"
    if capability < FIRST_FP8:
        return "MarlinFP8ScaledMMLinearKernel", "weights only: activations stay 16 bit"
    if strategy == "tensor" and capability >= FIRST_WITHOUT_INT8:
        return "FlashInferFP8ScaledMMLinearKernel", ""
    return (FP8_BLOCK_ON_CUDA if strategy == "block" else FP8_ON_CUDA), ""


def choose_plain(capability: Capability | None) -> tuple[str | None, str]:
    if capability is None:
        return "oneDNN", ""
    if capability < FIRST_INT8:
        return None, "vLLM's CUDA build starts at compute capability 7.5"
    return "cuBLAS", ""
