"""What is found on a machine, and what to mend: one line for each thing."""

import socket
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.core.gpus import GIB, Gpu, ProfileChoice
from app.core.memory.knobs import Device
from app.core.memory.preflight import FIRST_DRIVER_BRANCH, DriverError, refuse_driver
from app.plan.gpu_detection import Machine

# Weights of the default profile's model, and room for what the hub's client writes beside them.
MODEL_DISK_BYTES = 10 * GIB
SMALL_MEMORY_BYTES = 4 * GIB
BUSY_GPU_SHARE = 0.9


class Status(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FIX = "fix"


@dataclass(frozen=True, slots=True)
class Finding:
    """`sentence` says what is so, and for a warning or a fix what to do."""

    status: Status
    subject: str
    sentence: str


def judge_build(build: str | None, machine: Machine) -> Finding:
    if build is None:
        return Finding(
            Status.FIX, "engine", "vLLM is not installed here: run `make engine` and use .venv."
        )
    if build == "cpu" and machine.gpus:
        sentence = (
            "The CPU build of vLLM is installed on a machine with a GPU: remove .venv and run "
            "`make engine`."
        )
        return Finding(Status.WARNING, "engine", sentence)
    if build == "cuda" and not machine.gpus:
        sentence = "The CUDA build of vLLM is installed and no GPU is visible: see the driver."
        return Finding(Status.FIX, "engine", sentence)
    return Finding(Status.OK, "engine", f"vLLM's {build.upper()} build is installed.")


def judge_driver(machine: Machine) -> Finding:
    if machine.driver is None:
        return Finding(Status.OK, "driver", "No NVIDIA driver: models are served on the CPU.")
    try:
        refuse_driver(machine.driver, num_gpus=1, wanted_gpus=1)
    except DriverError as error:
        return Finding(Status.FIX, "driver", error.sentence)
    return Finding(
        Status.OK, "driver", f"{machine.driver}; CUDA 13 needs {FIRST_DRIVER_BRANCH} or newer."
    )


def judge_gpu(index: int, gpu: Gpu) -> Finding:
    major, minor = gpu.capability
    has = {"int8": gpu.has_int8, "fp8": gpu.has_fp8, "bfloat16": gpu.has_bf16}
    formats = ", ".join(f"{name} {'yes' if there else 'no'}" for name, there in has.items())
    free, total = gpu.free_bytes / GIB, gpu.total_bytes / GIB
    sentence = (
        f"{gpu.name}, compute capability {major}.{minor} ({gpu.generation}), {formats}, "
        f"{free:.1f} of {total:.1f} GiB free."
    )
    if not gpu.has_int8 and not gpu.has_fp8:
        return Finding(Status.FIX, f"GPU {index}", f"{sentence} vLLM has no 8-bit kernel for it.")
    if gpu.free_bytes < BUSY_GPU_SHARE * gpu.total_bytes:
        advice = "End what uses it, or lower engine.gpu_memory_utilization."
        return Finding(Status.WARNING, f"GPU {index}", f"{sentence} {advice}")
    return Finding(Status.OK, f"GPU {index}", sentence)


def judge_choice(choice: ProfileChoice, available: Collection[str]) -> Finding:
    """What `profile: auto` serves here, and its FP8 twin where that is the better one."""
    if choice.reason:
        return Finding(Status.OK, "runs best", f"profile {choice.profile}: {choice.reason}")
    sentence = f"profile {choice.profile}."
    twin = choice.profile.replace("-w8a8", "-fp8")
    if twin != choice.profile and twin in available:
        sentence += f" FP8 is the better choice on this GPU: profile {twin}."
    return Finding(Status.OK, "runs best", sentence)


def judge_memory(cpu: Device) -> Finding:
    free, total = cpu.free_bytes / GIB, cpu.total_bytes / GIB
    sentence = f"{free:.1f} of {total:.1f} GiB free."
    if cpu.free_bytes < SMALL_MEMORY_BYTES:
        advice = "The engine alone takes some 2 GiB: end other programs."
        return Finding(Status.WARNING, "memory", f"{sentence} {advice}")
    return Finding(Status.OK, "memory", sentence)


def judge_disk(folder: str, free_bytes: int, is_needed: bool) -> Finding:
    """`is_needed`: a model of 9 GB is still to be fetched into `folder`."""
    sentence = f"{free_bytes / GIB:.1f} GiB free for models in {folder}."
    if is_needed and free_bytes < MODEL_DISK_BYTES:
        advice = (
            f"The profile's model needs {MODEL_DISK_BYTES / GIB:.0f}: make room, or set HF_HOME."
        )
        return Finding(Status.FIX, "disk", f"{sentence} {advice}")
    return Finding(Status.OK, "disk", sentence)


def judge_hub(endpoint: str, is_reachable: bool, is_needed: bool) -> Finding:
    if is_reachable:
        return Finding(Status.OK, "model hub", f"{endpoint} answers.")
    sentence = f"{endpoint} does not answer"
    if is_needed:
        advice = "serve a model from a directory (model.path), or set HF_ENDPOINT to a mirror."
        return Finding(Status.FIX, "model hub", f"{sentence}: {advice}")
    return Finding(Status.WARNING, "model hub", f"{sentence}; what is served here needs none.")


def judge_port(host: str, port: int) -> Finding:
    try:
        with socket.create_server((host, port)):
            return Finding(Status.OK, "port", f"{host}:{port} is free.")
    except OSError as error:
        reason = error.strerror or str(error)
        sentence = f"{host}:{port} cannot be used ({reason}): set server.port (PORT) to another."
        return Finding(Status.WARNING, "port", sentence)


def render(findings: Sequence[Finding]) -> Iterator[str]:
    width = max(len(finding.subject) for finding in findings)
    for finding in findings:
        yield f"{finding.status.value:<8} {finding.subject:<{width}}  {finding.sentence}"
