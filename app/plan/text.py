"""A plan as text for people and as values for programs."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from app.core.checkpoint_scheme import SchemeName
from app.core.memory.advice import cost_of_choices
from app.core.memory.fixes import Fix, find_fixes
from app.core.memory.knobs import Knobs, can_split
from app.core.memory.plan import Plan, make_plan
from app.core.memory.units import readable

LENGTHS = (1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
SPLITS = (1, 2, 4, 8)
WIDTH = 25
ESTIMATES = "What is marked, and so what is left for the KV cache, no GPU has confirmed."
WEIGHT_FORMULAS = {
    "embedding": "vocabulary, padded to a multiple of 64, x hidden x bytes",
    "output head": "the same again, unless it is tied",
    "attention": "rows x columns x bytes of q, k, v, o",
    "mlp": "rows x columns x bytes of gate, up, down, and of experts",
    "norms": "their values x bytes",
    "scales": "4 bytes for each output channel (float32), 8 on the CPU",
    "other": "as stored",
}


@dataclass(frozen=True)
class View:
    """A plan and what is asked about it.

    `given` names the settings that the user set, `advised` is the planner's own choice of all.
    """

    plan: Plan
    knobs: Knobs
    advised: Plan
    given: tuple[str, ...]
    mean_tokens: int
    concurrency: int | None = None

    @cached_property
    def fixes(self) -> tuple[Fix, ...]:
        return find_fixes(self.plan, self.knobs)

    def splits(self) -> Iterator[tuple[int, Plan]]:
        """The same on several GPUs, for every number that the model can be split by."""
        plan = self.plan
        for num_gpus in SPLITS:
            if can_split(plan.shape, num_gpus):
                knobs = replace(self.knobs, tensor_parallel_size=num_gpus)
                yield num_gpus, make_plan(plan.shape, plan.device, knobs)


def plan_lines(view: View) -> Iterator[str]:
    yield from heading(view.plan)
    yield from memory_lines(view.plan)
    yield from capacity_lines(view)
    yield ""
    yield from verdict_lines(view)


def heading(plan: Plan) -> Iterator[str]:
    now, device, architecture = plan.settings, plan.device, plan.shape.architecture
    yield f"{architecture.name}, {plan.shape.scheme.name}, on {device.name}"
    yield (
        f"max_model_len {now.max_model_len:,}, max_num_seqs {now.max_num_seqs}, "
        f"max_num_batched_tokens {now.max_num_batched_tokens:,}, {now.dtype}, "
        f"KV cache {now.kv_cache_dtype}, {now.tensor_parallel_size} GPU(s)"
        if not device.is_cpu
        else f"max_model_len {now.max_model_len:,}, {now.dtype}, KV cache {now.kv_cache_dtype}"
    )
    yield ""


def memory_lines(plan: Plan) -> Iterator[str]:
    for kind, num_bytes in plan.weights.items():
        yield row(f"weights: {kind}", num_bytes, WEIGHT_FORMULAS[kind])
    yield row("weights", plan.weights_bytes, "their sum; safetensors headers, or config.json")
    for term in plan.overheads:
        mark = "estimate: " if term.is_estimate else ""
        yield row(term.name, term.num_bytes, f"{mark}{term.formula} ({term.source})")
    yield row("KV cache", plan.kv_bytes, kv_formula(plan))
    yield row("in all", plan.budget_bytes, budget_formula(plan))
    if plan.context_bytes:
        yield row("beside it", plan.context_bytes, "estimate: CUDA context, before vLLM counts")
    yield ""


def row(name: str, num_bytes: float, formula: str) -> str:
    return f"  {name:<{WIDTH}} {readable(num_bytes):>11}  {formula}"


def kv_formula(plan: Plan) -> str:
    if plan.device.is_cpu:
        return "engine.cpu_kv_cache_gib"
    return "estimate: what is left of vLLM's share (v1/worker/gpu_worker.py)"


def budget_formula(plan: Plan) -> str:
    if plan.device.is_cpu:
        return f"of {readable(plan.device.free_bytes)} free"
    share = plan.settings.gpu_memory_utilization
    return f"{share} x {readable(plan.device.total_bytes)}, engine.gpu_memory_utilization x total"


def capacity_lines(view: View) -> Iterator[str]:
    plan, mean_tokens = view.plan, view.mean_tokens
    cache, now = plan.kv_cache, plan.settings
    yield (
        f"  KV cache: {cache.bytes_per_token / 1024:g} KiB per token (2 x layers x KV heads x "
        f"head_dim x bytes), {plan.num_blocks:,} blocks of {cache.block_tokens}, "
        f"{plan.kv_tokens:,} tokens"
    )
    yield (
        f"  At once: {plan.full_sequences:,} sequences of {now.max_model_len:,} tokens, "
        f"{plan.sequences_at(mean_tokens):,} of {mean_tokens:,}; max_num_seqs allows "
        f"{now.max_num_seqs:,}"
    )
    limit = plan.shape.architecture.max_positions or now.max_model_len
    lengths = [length for length in LENGTHS if length <= limit]
    yield "  Sequences at once by length: " + ", ".join(
        f"{length:,}: {plan.sequences_at(length):,}" for length in lengths
    )
    if plan.shape.scheme.name is not SchemeName.UNQUANTIZED:
        yield (
            f"  The same at 16 bit: weights {readable(plan.weights_16_bit_bytes)} instead of "
            f"{readable(plan.weights_bytes)}, {plan.kv_tokens_at_16_bit:,} KV tokens"
        )
    if not plan.device.is_cpu:
        yield "  KV tokens by tensor_parallel_size: " + ", ".join(
            f"{num_gpus}: {split.kv_tokens:,}" for num_gpus, split in view.splits()
        )
    if view.concurrency:
        longest = plan.longest_for(view.concurrency)
        yield f"  For {view.concurrency} sequences at once: max_model_len up to {longest:,}"


def verdict_lines(view: View) -> Iterator[str]:
    if cost := cost_of_choices(view.plan, view.advised, view.given):
        yield cost
    yield from beyond_positions(view.plan)
    if view.plan.fits:
        yield "It fits." if view.plan.device.is_cpu else f"It fits. {ESTIMATES}"
        return
    yield verdict(view.plan)
    if view.fixes:
        yield "The cheapest ways to make it fit:"
        yield from (f"  {number}. {fix}" for number, fix in enumerate(view.fixes, 1))
    else:
        yield "No setting makes it fit: a GPU with more memory is needed."


def beyond_positions(plan: Plan) -> Iterator[str]:
    limit = plan.shape.architecture.max_positions
    if limit is not None and plan.settings.max_model_len > limit:
        yield (
            f"config.json has {limit:,} positions (max_position_embeddings): vLLM refuses a longer "
            "max_model_len, unless it scales them too."
        )


def verdict(plan: Plan) -> str:
    if plan.shortage_bytes:
        return (
            f"It does not fit: {readable(plan.shortage_bytes)} are missing for one sequence of "
            f"{plan.settings.max_model_len:,} tokens."
        )
    return (
        f"It does not fit: {readable(plan.free_shortage_bytes)} more must be free "
        f"({readable(plan.device.free_bytes)} are)."
    )


def plan_values(view: View) -> dict[str, Any]:
    """Bytes throughout. `estimates` names the terms that no measurement stands behind."""
    plan, mean_tokens = view.plan, view.mean_tokens
    now, cache = plan.settings, plan.kv_cache
    return {
        "model": plan.shape.architecture.name,
        "scheme": str(plan.shape.scheme.name),
        "device": plan.device.name,
        "total_bytes": plan.device.total_bytes,
        "free_bytes": plan.device.free_bytes,
        "settings": {name: getattr(now, name) for name in now.__slots__},
        "weights": {**plan.weights, "total": plan.weights_bytes},
        "weights_16_bit": plan.weights_16_bit_bytes,
        "overheads": {term.name: term.num_bytes for term in plan.overheads},
        "estimates": [term.name for term in plan.overheads if term.is_estimate],
        "formulas": {t.name: {"formula": t.formula, "source": t.source} for t in plan.overheads},
        "budget_bytes": plan.budget_bytes,
        "kv_cache": {
            "bytes": plan.kv_bytes,
            "bytes_per_token": cache.bytes_per_token,
            "block_tokens": cache.block_tokens,
            "blocks": plan.num_blocks,
            "tokens": plan.kv_tokens,
            "tokens_at_16_bit": plan.kv_tokens_at_16_bit,
        },
        "sequences": {
            "at_max_model_len": plan.full_sequences,
            "at_mean_length": plan.sequences_at(mean_tokens),
            "mean_length": mean_tokens,
        },
        "longest_context": view.concurrency and plan.longest_for(view.concurrency),
        "kv_tokens_by_tensor_parallel_size": {n: split.kv_tokens for n, split in view.splits()},
        "fits": plan.fits,
        "shortage_bytes": plan.shortage_bytes,
        "free_shortage_bytes": plan.free_shortage_bytes,
        "fixes": [str(fix) for fix in view.fixes],
    }
