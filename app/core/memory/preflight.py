"""What is refused before any weight is read: each failure one sentence with its remedy.

Only what is certain is refused. A plan that fails by an estimate alone is said, and the start goes
on: what the user set wins.
"""

from app.core.checkpoint_kernels import choose_kernel
from app.core.checkpoint_scheme import Scheme, SchemeName
from app.core.errors import StartError
from app.core.gpus import FIRST_BF16, Gpu
from app.core.memory.fixes import find_fixes
from app.core.memory.knobs import Knobs
from app.core.memory.plan import Plan
from app.core.memory.units import readable

# The CUDA build is for CUDA 13.0 (requirements/cuda.lock), whose first driver branch this is.
FIRST_DRIVER_BRANCH = 580


class DriverError(StartError):
    """No usable NVIDIA driver, or fewer GPUs than asked for."""

    exit_code = 10


class GenerationError(StartError):
    """The GPU's generation does not compute what the checkpoint or the settings need."""

    exit_code = 11


class DoesNotFitError(StartError):
    """The model and one sequence need more memory than the engine may take."""

    exit_code = 13


class MemoryInUseError(StartError):
    """It would fit, but others use the memory."""

    exit_code = 14


def refuse_driver(driver: str | None, num_gpus: int, wanted_gpus: int) -> None:
    if driver is None:
        raise DriverError(
            "The CUDA build of vLLM is installed and no NVIDIA driver answers: install driver "
            f"{FIRST_DRIVER_BRANCH} or newer, or make the CPU build's environment with BUILD=cpu."
        )
    branch = driver.partition(".")[0]
    if branch.isdecimal() and int(branch) < FIRST_DRIVER_BRANCH:
        raise DriverError(
            f"The NVIDIA driver is {driver} and CUDA 13 needs {FIRST_DRIVER_BRANCH} or newer: "
            "install a newer driver."
        )
    if num_gpus < wanted_gpus:
        raise DriverError(
            f"engine.tensor_parallel_size is {wanted_gpus} and {num_gpus} GPUs are visible: lower "
            "it, or see CUDA_VISIBLE_DEVICES."
        )


def refuse_generation(gpu: Gpu, scheme: Scheme, dtype: str) -> None:
    kernel, reason = choose_kernel(scheme, gpu.capability)
    major, minor = gpu.capability
    if kernel is None:
        raise GenerationError(
            f"{gpu.name} (compute capability {major}.{minor}) cannot run a {scheme.name} "
            f"checkpoint ({reason}): serve {alternative(gpu)} one on it."
        )
    if dtype == "bfloat16" and gpu.capability < FIRST_BF16:
        raise GenerationError(
            f"{gpu.name} (compute capability {major}.{minor}) has no bfloat16: set engine.dtype "
            "to float16 or auto."
        )


def alternative(gpu: Gpu) -> str:
    if gpu.has_int8:
        return "a w8a8-int8"
    return (
        "an fp8" if gpu.has_fp8 else "another model on another GPU, for vLLM has no kernel for any"
    )


def refuse_memory(plan: Plan, knobs: Knobs) -> str:
    """Raises for a plan that cannot work; returns a warning for one that may not, or nothing."""
    needed = plan.kv_cache.blocks_of_sequence(plan.settings.max_model_len)
    taken = plan.budget_bytes - (plan.estimated_bytes if plan.device.is_cpu else 0)
    if taken < plan.weights_bytes + needed * plan.kv_cache.block_bytes:
        raise DoesNotFitError(f"{describe_shortage(plan)} {first_fix(plan, knobs)}")
    if plan.device.free_bytes < taken:
        raise MemoryInUseError(describe_use_by_others(plan, taken))
    if plan.fits:
        return ""
    return f"By the plan's estimates it may not fit. {first_fix(plan, knobs)}"


def describe_shortage(plan: Plan) -> str:
    length, weights = plan.settings.max_model_len, readable(plan.weights_bytes)
    sequence, share = readable(plan.one_sequence_bytes), readable(plan.budget_bytes)
    return (
        f"The model does not fit on {plan.device.name}: weights of {weights} and one sequence of "
        f"{length:,} tokens ({sequence}) need more than the {share} that the engine may take."
    )


def describe_use_by_others(plan: Plan, taken: int) -> str:
    device = plan.device
    free, total = readable(device.free_bytes), readable(device.total_bytes)
    sentence = (
        f"The engine would take {readable(taken)} of {device.name} and {free} of {total} are free: "
    )
    if device.is_cpu:
        return sentence + "end what uses the memory, or lower engine.cpu_kv_cache_gib."
    share = max(int((device.free_bytes - plan.context_bytes) / device.total_bytes * 100), 1) / 100
    return sentence + f"end what uses it, or set engine.gpu_memory_utilization to {share} or lower."


def first_fix(plan: Plan, knobs: Knobs) -> str:
    fixes = find_fixes(plan, knobs)
    return f"To mend it: {fixes[0]}." if fixes else "No setting mends it: it needs more memory."


def scheme_named(name: str) -> Scheme:
    """A scheme of which only the name is known: all that the GPU's generation depends on."""
    return Scheme(SchemeName(name))
