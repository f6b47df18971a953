"""The GPUs that people serve on: what each can compute, how much memory it gives, and which
profile `profile: auto` means on it.

Compute capabilities: NVIDIA's CUDA GPU list (developer.nvidia.com/cuda-gpus). INT8 and FP8 by
capability: vLLM 0.32.0's table of supported hardware; its CUTLASS int8 kernel has no code for
compute capability 10.0 and newer, and fails there only inside the first matrix product.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

GIB = 2**30
MIB = 2**20

FIRST_INT8 = (7, 5)
FIRST_BF16 = (8, 0)
FIRST_FP8 = (8, 9)
FIRST_WITHOUT_INT8 = (10, 0)

GENERATIONS = (
    ((10, 0), "Blackwell"),
    ((9, 0), "Hopper"),
    ((8, 9), "Ada"),
    ((8, 0), "Ampere"),
    ((7, 5), "Turing"),
    ((7, 0), "Volta"),
    ((6, 0), "Pascal"),
)

LLAMA_PROFILE = "llama-3.1-8b-instruct-w8a8"
BUNDLED_PROFILE = "bundled"
BUNDLED_16BIT_PROFILE = "bundled-16bit"

# Weights 8.46 GiB, 1.1 GiB beside them (Turing; others less) and one context of 8,192 tokens
# (1 GiB), in 90 % of the card.
LLAMA_MIN_TOTAL_BYTES = int(11.8 * GIB)


@dataclass(frozen=True)
class Gpu:
    """One GPU as a process on it sees it: memory is what CUDA can give, not what the box says."""

    name: str
    total_bytes: int
    free_bytes: int
    capability: tuple[int, int]

    @property
    def generation(self) -> str:
        return next((name for since, name in GENERATIONS if self.capability >= since), "older")

    @property
    def has_int8(self) -> bool:
        return FIRST_INT8 <= self.capability < FIRST_WITHOUT_INT8

    @property
    def has_fp8(self) -> bool:
        return self.capability >= FIRST_FP8

    @property
    def has_bf16(self) -> bool:
        return self.capability >= FIRST_BF16


@dataclass(frozen=True)
class Card:
    """A product: `key` is what `--gpu` takes, `marks` are what its name as NVML gives it holds.

    `usable_mib` is the smallest total that PyTorch reports for it ("has a total capacity of" in
    its out-of-memory messages, from public reports), which is less than what is sold.
    """

    key: str
    title: str
    marks: tuple[str, ...]
    sold_gib: int
    usable_mib: int
    capability: tuple[int, int]

    @property
    def gpu(self) -> Gpu:
        total = self.usable_mib * MIB
        return Gpu(self.title, total, total, self.capability)


CARDS = (
    Card("t4", "Tesla T4", ("T4",), 16, 14909, (7, 5)),
    Card("rtx2080ti", "GeForce RTX 2080 Ti", ("RTX 2080 Ti",), 11, 11008, (7, 5)),
    Card("rtx3080", "GeForce RTX 3080", ("RTX 3080",), 10, 10004, (8, 6)),
    Card("rtx3090", "GeForce RTX 3090", ("RTX 3090",), 24, 24248, (8, 6)),
    Card("rtx4090", "GeForce RTX 4090", ("RTX 4090",), 24, 24197, (8, 9)),
    Card("a10", "A10", ("A10", "A10G"), 24, 22507, (8, 6)),
    Card("l4", "L4", ("L4",), 24, 22487, (8, 9)),
    Card("a100-40", "A100 40 GB", ("A100",), 40, 40325, (8, 0)),
    Card("a100-80", "A100 80 GB", ("A100",), 80, 81039, (8, 0)),
    Card("l40s", "L40S", ("L40S",), 48, 45455, (8, 9)),
    Card("h100", "H100 80 GB", ("H100",), 80, 80998, (9, 0)),
    Card("h200", "H200", ("H200",), 141, 143155, (9, 0)),
)


def find_card(gpu: Gpu) -> Card | None:
    """The product that a GPU found in a machine is: by name, capability, and memory within 12 %."""
    words = f" {gpu.name.replace('-', ' ')} "
    for card in CARDS:
        named = any(f" {mark} " in words for mark in card.marks)
        near = abs(gpu.total_bytes / MIB - card.usable_mib) <= 0.12 * card.usable_mib
        if named and near and gpu.capability == card.capability:
            return card
    return None


@dataclass(frozen=True)
class ProfileChoice:
    """What `profile: auto` means here; `reason` is a sentence where it is the bundled model."""

    profile: str
    reason: str | None = None


def choose_profile(gpus: Sequence[Gpu], available: Collection[str]) -> ProfileChoice:
    """The profile for the first GPU. `available` names the profiles that exist."""
    if not gpus:
        return ProfileChoice(BUNDLED_PROFILE, "There is no NVIDIA GPU in this machine.")
    gpu = gpus[0]
    major, minor = gpu.capability
    if not gpu.has_int8:
        reason = f"{gpu.name} has compute capability {major}.{minor}: INT8 W8A8 needs 7.5 to 9.0."
        return ProfileChoice(BUNDLED_16BIT_PROFILE, reason)
    card = find_card(gpu)
    if card and f"{LLAMA_PROFILE}-{card.key}" in available:
        return ProfileChoice(f"{LLAMA_PROFILE}-{card.key}")
    if gpu.total_bytes < LLAMA_MIN_TOTAL_BYTES:
        has, needs = gpu.total_bytes / GIB, LLAMA_MIN_TOTAL_BYTES / GIB
        reason = f"{gpu.name} has {has:.1f} GiB, Llama-3.1-8B in W8A8 needs {needs:.1f} GiB."
        return ProfileChoice(BUNDLED_PROFILE, reason)
    return ProfileChoice(LLAMA_PROFILE)
