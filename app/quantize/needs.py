"""The disk and the memory that a quantization needs, and whether the machine has them."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.core.checkpoint import Checkpoint
from app.core.checkpoint_header import Tensor
from app.core.errors import AppError
from app.quantize.job import Job

GIB = 2**30
# Python, torch, transformers and llm-compressor loaded and idle: measured 0.9 GiB, rounded up.
RUNTIME_BYTES = GIB
FLOAT32_BYTES = 4
SCALE_BYTES = 2
# load_offloaded_model of compressed-tensors keeps this much memory free of weights.
OFFLOAD_RESERVE_BYTES = 5 * 10**9
# What the NVIDIA driver makes, on Linux and under WSL.
GPU_DRIVERS = (Path("/dev/nvidiactl"), Path("/dev/dxg"))


@dataclass(frozen=True, slots=True)
class Needs:
    """Upper estimates; `working_bytes` is on the GPU where one is used, the rest on the host."""

    download_bytes: int
    output_bytes: int
    weights_bytes: int
    calibration_bytes: int
    working_bytes: int

    @property
    def host_bytes(self) -> int:
        return RUNTIME_BYTES + self.weights_bytes + self.calibration_bytes + self.working_bytes


def estimate(checkpoint: Checkpoint, job: Job) -> Needs:
    linears = list(quantizable(checkpoint))
    saved = sum(
        tensor.num_bytes - tensor.num_values - tensor.shape[0] * SCALE_BYTES for tensor in linears
    )
    return Needs(
        download_bytes=0 if job.is_local else checkpoint.num_bytes,
        output_bytes=checkpoint.num_bytes - saved,
        weights_bytes=OFFLOAD_RESERVE_BYTES if job.offload else checkpoint.num_bytes,
        calibration_bytes=calibration_bytes(checkpoint, job),
        working_bytes=working_bytes(linears, job),
    )


def quantizable(checkpoint: Checkpoint) -> Iterator[Tensor]:
    """The weights that the recipes' target, `Linear`, stands for."""
    for tensor in checkpoint.tensors:
        is_linear = len(tensor.shape) == 2 and tensor.name.endswith(".weight")
        if is_linear and ".layers." in tensor.name and not tensor.name.endswith(".gate.weight"):
            yield tensor


def calibration_bytes(checkpoint: Checkpoint, job: Job) -> int:
    """The inputs and the outputs of one layer for every calibration token, in 16 bit."""
    if job.calibration is None:
        return 0
    tokens = job.calibration.num_samples * job.calibration.max_seq_length
    return 2 * tokens * checkpoint.architecture.hidden_size * 2


def working_bytes(linears: list[Tensor], job: Job) -> int:
    """GPTQ keeps a K x K float32 Hessian for each weight (N, K) of a layer, and three more copies
    of one while it is inverted; every recipe copies a weight to float32."""
    if not linears:
        return 0
    copy = 2 * FLOAT32_BYTES * max(tensor.num_values for tensor in linears)
    if job.recipe.gptq_dampening is None:
        return copy
    by_layer: dict[str, int] = {}
    for tensor in linears:
        layer = layer_of(tensor.name)
        by_layer[layer] = by_layer.get(layer, 0) + FLOAT32_BYTES * tensor.shape[1] ** 2
    return copy + max(by_layer.values()) + 3 * FLOAT32_BYTES * max(t.shape[1] for t in linears) ** 2


def layer_of(name: str) -> str:
    """`model.layers.7` of `model.layers.7.mlp.up_proj.weight`."""
    before, _, after = name.partition(".layers.")
    return f"{before}.layers.{after.partition('.')[0]}"


def check_machine(needs: Needs, job: Job) -> None:
    """Raises AppError where there is no GPU and one was asked for; and, with the numbers, where
    disk or memory do not suffice."""
    if job.device.startswith("cuda") and not any(path.exists() for path in GPU_DRIVERS):
        raise AppError(
            f"--device {job.device} was asked for, and this machine has no NVIDIA driver: use cpu."
        )
    existing = next(parent for parent in job.out.absolute().parents if parent.exists())
    check_enough("disk", needs.output_bytes + needs.download_bytes, free_disk_bytes(existing))
    smaller = "" if job.offload else "; --offload keeps the model on disk"
    if job.calibration is not None:
        smaller += "; fewer --samples or a shorter --max-seq-length need less"
    available = available_memory_bytes()
    if available is not None:
        check_enough("memory", needs.host_bytes, available, smaller)


def check_enough(what: str, needed: int, available: int, remedy: str = "") -> None:
    if needed > available:
        raise AppError(
            f"Too little {what}: up to {needed / GIB:.1f} GiB are needed and "
            f"{available / GIB:.1f} GiB are free{remedy}."
        )


def free_disk_bytes(path: Path) -> int:
    return shutil.disk_usage(path).free


def available_memory_bytes() -> int | None:
    """What the machine has left, or what the container may still take; None off Linux."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    available = next(int(line.split()[1]) * 1024 for line in lines if "MemAvailable" in line)
    limit, used = (read_cgroup(f"memory.{name}") for name in ("max", "current"))
    return available if limit is None or used is None else min(available, limit - used)


def read_cgroup(name: str) -> int | None:
    try:
        text = (Path("/sys/fs/cgroup") / name).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
