"""The settings to start with, where the user gave none: what a profile is made of."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from app.core.gpus import GIB
from app.core.memory.knobs import Device, Knobs
from app.core.memory.plan import Plan, make_plan
from app.core.memory.shape import ModelShape

Choice = TypeVar("Choice")

UTILIZATIONS = (0.9, 0.92, 0.95)
LENGTHS = (131072, 65536, 32768, 16384, 8192, 4096, 2048)
NUM_SEQS = (512, 256, 128, 64, 32, 16, 8)
STEP_TOKENS = (8192, 2048, 1024)
LARGE_CARD_BYTES = 38 * GIB  # from here on a step of 8,192 tokens costs little of the card
MEAN_TOKENS = 1024
# A context that only one or two sequences can fill at once is too long for the card, unless
# nothing shorter was allowed.
FULL_SEQUENCES = (4, 2, 1)
# A card that holds fewer, whatever is tried, gets no profile.
MIN_PROFILE_SEQUENCES = 2


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user said; None leaves it to the planner."""

    gpu_memory_utilization: float | None = None
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    dtype: str = "auto"
    kv_cache_dtype: str = "auto"
    tensor_parallel_size: int = 1
    enforce_eager: bool = False
    cpu_kv_cache_gib: float = 1

    def knobs(self) -> Knobs:
        """As the server would start with them: its own defaults for the rest."""
        return Knobs(
            gpu_memory_utilization=self.gpu_memory_utilization or UTILIZATIONS[0],
            max_model_len=self.max_model_len,
            max_num_seqs=self.max_num_seqs,
            max_num_batched_tokens=self.max_num_batched_tokens,
            dtype=self.dtype,
            kv_cache_dtype=self.kv_cache_dtype,
            tensor_parallel_size=self.tensor_parallel_size,
            enforce_eager=self.enforce_eager,
            cpu_kv_cache_gib=self.cpu_kv_cache_gib,
        )


def advise(shape: ModelShape, device: Device, wanted: Wanted, mean_tokens: int) -> Knobs:
    """The first settings that serve well: the smallest share of the card, then the longest context
    that at least four sequences can fill, for as many sequences of `mean_tokens` as fit.

    Where four cannot, two, then one. Where nothing fits, the smallest that was tried: its plan
    says what is missing.
    """
    tried = wanted.knobs()
    for full_sequences in FULL_SEQUENCES:
        for tried in candidates(shape, device, wanted):
            need = Need(mean_tokens, full_sequences)
            chosen = choose_sequences(shape, device, wanted, tried, need)
            if chosen is not None:
                return chosen
    return replace(tried, max_num_seqs=wanted.max_num_seqs or NUM_SEQS[-1])


@dataclass(frozen=True, slots=True)
class Need:
    """All sequences of `mean_tokens` run at once, and so many of the full length."""

    mean_tokens: int
    full_sequences: int

    def is_met(self, plan: Plan, may_queue: bool) -> bool:
        """`may_queue`: fewer than max_num_seqs may fit, for the user set it."""
        length = min(self.mean_tokens, plan.settings.max_model_len)
        all_run = may_queue or plan.sequences_at(length) >= plan.settings.max_num_seqs
        return plan.fits and all_run and plan.full_sequences >= self.full_sequences


def candidates(shape: ModelShape, device: Device, wanted: Wanted) -> Iterator[Knobs]:
    limit = shape.architecture.max_positions or LENGTHS[0]
    steps = STEP_TOKENS if device.total_bytes >= LARGE_CARD_BYTES else STEP_TOKENS[1:]
    lengths = sorted({min(length, limit) for length in LENGTHS}, reverse=True)
    for utilization in either(wanted.gpu_memory_utilization, UTILIZATIONS):
        for length in either(wanted.max_model_len, lengths):
            for step in either(wanted.max_num_batched_tokens, steps):
                yield replace(
                    wanted.knobs(),
                    gpu_memory_utilization=utilization,
                    max_model_len=length,
                    max_num_batched_tokens=step,
                )


def either(said: Choice | None, choices: Sequence[Choice]) -> tuple[Choice, ...]:
    return tuple(choices) if said is None else (said,)


def choose_sequences(
    shape: ModelShape, device: Device, wanted: Wanted, tried: Knobs, need: Need
) -> Knobs | None:
    """The most sequences that meet the need; None where no number does."""
    for num_seqs in either(wanted.max_num_seqs, NUM_SEQS):
        knobs = replace(tried, max_num_seqs=num_seqs)
        if need.is_met(make_plan(shape, device, knobs), wanted.max_num_seqs is not None):
            return knobs
    return None


DECIDING = ("gpu_memory_utilization", "max_model_len", "max_num_seqs", "max_num_batched_tokens")


def cost_of_choices(plan: Plan, advised: Plan, given: Sequence[str] = DECIDING) -> str:
    """What the settings named in `given` cost against the planner's own choice, as a sentence;
    empty where they are the same.
    """
    pairs = {
        name: (getattr(plan.settings, name), getattr(advised.settings, name)) for name in given
    }
    changed = [f"{name} {mine} for {its}" for name, (mine, its) in pairs.items() if mine != its]
    if not changed:
        return ""
    now, then = plan.settings.max_model_len, advised.settings.max_model_len
    return (
        f"Other than the planner would choose: {', '.join(changed)}. That gives "
        f"{plan.full_sequences:,} sequences of {now:,} tokens at once and {plan.kv_tokens:,} KV "
        f"tokens, for {advised.full_sequences:,} of {then:,} and {advised.kv_tokens:,}."
    )
