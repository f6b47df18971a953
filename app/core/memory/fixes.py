"""Ways to make a plan fit, from the cheapest on, as settings."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import reduce
from itertools import combinations
from math import ceil, floor

from app.core.checkpoint_scheme import Quantized, Scheme, SchemeName
from app.core.gpus import FIRST_FP8, FIRST_INT8, FIRST_WITHOUT_INT8, GIB
from app.core.memory.knobs import Knobs, can_split
from app.core.memory.plan import Plan, make_plan
from app.core.memory.shape import ModelShape
from app.core.memory.tensors import FAMILIES, expected_tensors

MAX_UTILIZATION = 0.95
SMALLEST_STEP_TOKENS = 512
SMALLEST_NUM_SEQS = 16
SMALLEST_LENGTH = 512
LENGTH_STEP = 256
MAX_GPUS = 8
NUM_FIXES = 3


W8A8 = Scheme(
    SchemeName.W8A8_INT8,
    weights=Quantized(8, "int", "channel", symmetric=True, dynamic=False),
    activations=Quantized(8, "int", "token", symmetric=True, dynamic=True),
)


@dataclass(frozen=True, slots=True)
class Fix:
    """Settings of `engine:` to change, and what that costs; `shape` where the model changes too."""

    settings: tuple[tuple[str, object], ...]
    cost: str
    shape: ModelShape | None = None

    def __str__(self) -> str:
        changes = [f"engine.{name}={value}" for name, value in self.settings]
        if self.shape is not None:
            changes.insert(0, f"model.scheme={self.shape.scheme.name}")
        return f"{', '.join(changes)} ({self.cost})"


def find_fixes(plan: Plan, knobs: Knobs) -> tuple[Fix, ...]:
    """At most three, none for a plan that fits: single changes first, then two or three at once."""
    if plan.fits:
        return ()
    steps = list(cheaper_settings(plan))
    found: list[tuple[Fix, ...]] = []
    for num_changes in (1, 2, 3):
        for changes in combinations(steps, num_changes):
            if (
                len(found) < NUM_FIXES
                and is_new(changes, found)
                and fits_with(plan, knobs, changes)
            ):
                found.append(changes)
    return tuple(reduce(join, changes) for changes in found)


def is_new(changes: tuple[Fix, ...], found: list[tuple[Fix, ...]]) -> bool:
    """No setting twice, and nothing on top of what is enough already."""
    names = [name for fix in changes for name, _ in fix.settings]
    return len(names) == len(set(names)) and not any(set(one) <= set(changes) for one in found)


def join(first: Fix, second: Fix) -> Fix:
    settings = (*first.settings, *second.settings)
    return Fix(settings, f"{first.cost}; {second.cost}", second.shape or first.shape)


def fits_with(plan: Plan, knobs: Knobs, changes: tuple[Fix, ...]) -> bool:
    fix = reduce(join, changes)
    changed = replace(knobs, **dict(fix.settings))  # type: ignore[arg-type]
    return make_plan(fix.shape or plan.shape, plan.device, changed).fits


def cheaper_settings(plan: Plan) -> Iterator[Fix]:
    """One change each, in the order of what it takes from users."""
    if plan.device.is_cpu:
        yield from other_cpu_caches(plan)
        yield from shorter_contexts(plan)
        return
    yield from smaller_steps(plan)
    if plan.shape.scheme.name is SchemeName.UNQUANTIZED:
        yield from quantized_models(plan)
    yield from shorter_contexts(plan)
    yield from last_resorts(plan)


def other_cpu_caches(plan: Plan) -> Iterator[Fix]:
    """The smallest KV cache that holds one sequence: larger than it is, or smaller."""
    gibs = ceil(plan.one_sequence_bytes / GIB)
    if gibs * GIB != plan.settings.cpu_kv_cache_bytes:
        cost = "fewer KV tokens" if plan.free_shortage_bytes else "more of the machine's memory"
        yield Fix((("cpu_kv_cache_gib", gibs),), cost)


def smaller_steps(plan: Plan) -> Iterator[Fix]:
    now = plan.settings
    utilization = best_utilization(plan)
    if utilization > 0 and utilization != now.gpu_memory_utilization:
        cost = "less of the card left to others"
        if utilization < now.gpu_memory_utilization:
            cost = "fewer KV tokens; the rest of the card is in use by others"
        yield Fix((("gpu_memory_utilization", utilization),), cost)
    if now.max_num_batched_tokens > SMALLEST_STEP_TOKENS:
        cost = "slower prefill of long prompts"
        yield Fix((("max_num_batched_tokens", SMALLEST_STEP_TOKENS),), cost)
    if now.max_num_seqs > SMALLEST_NUM_SEQS:
        yield Fix((("max_num_seqs", SMALLEST_NUM_SEQS),), "fewer requests run at once")


def quantized_models(plan: Plan) -> Iterator[Fix]:
    """The same model in W8A8, where its tensors are known and the GPU multiplies int8."""
    capability, architecture = plan.device.capability, plan.shape.architecture
    if capability is None or not FIRST_INT8 <= capability < FIRST_WITHOUT_INT8:
        return
    if architecture.model_type in FAMILIES and not architecture.num_experts:
        tensors = expected_tensors(architecture, W8A8)
        shape = replace(plan.shape, scheme=W8A8, tensors=tensors)
        yield Fix((), "with a checkpoint of it in INT8 W8A8", shape)


def last_resorts(plan: Plan) -> Iterator[Fix]:
    now, capability = plan.settings, plan.device.capability
    if capability and capability >= FIRST_FP8 and now.kv_cache_dtype == "auto":
        yield Fix((("kv_cache_dtype", "fp8"),), "a little accuracy")
    if not now.enforce_eager:
        yield Fix((("enforce_eager", True),), "slower decoding, without CUDA graphs")
    num_gpus = now.tensor_parallel_size * 2
    while num_gpus <= MAX_GPUS:
        if can_split(plan.shape, num_gpus):
            yield Fix((("tensor_parallel_size", num_gpus),), f"{num_gpus} such GPUs")
        num_gpus *= 2


def best_utilization(plan: Plan) -> float:
    """The largest share, in hundredths, that the free memory allows; at most 0.95."""
    usable = plan.device.free_bytes - plan.context_bytes
    return min(MAX_UTILIZATION, floor(usable / plan.device.total_bytes * 100) / 100)


def shorter_contexts(plan: Plan) -> Iterator[Fix]:
    """The longest context for which one sequence fits as things are, or the shortest of use."""
    longest = plan.kv_cache.longest_sequence(plan.num_blocks, 1, plan.settings.max_model_len)
    length = max(longest // LENGTH_STEP * LENGTH_STEP, SMALLEST_LENGTH)
    if length < plan.settings.max_model_len:
        yield Fix((("max_model_len", length),), "shorter prompts and answers")
