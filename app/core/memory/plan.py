"""The plan: what goes where in a GPU's memory, and how many tokens that leaves room for.

vLLM 0.32.0 counts so (v1/worker/gpu_worker.py, determine_available_memory): of its share of the
card, total x gpu_memory_utilization, it takes weights, the peak of a profile run, what is used
outside PyTorch, and an estimate of the CUDA graphs; the rest is KV cache. On the CPU the KV cache
has a fixed size.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from app.core.memory import overheads
from app.core.memory.knobs import Device, Knobs, Resolved, resolve
from app.core.memory.kv_cache import (
    BLOCK_TOKENS_CPU,
    BLOCK_TOKENS_CUDA,
    NULL_BLOCKS,
    KvCache,
    kv_cache_of,
)
from app.core.memory.shape import ModelShape
from app.core.memory.weights import Placement, weights_at_16_bit, weights_by_kind

WORKER = "vllm/v1/worker/gpu_worker.py"
# Batches under way at once: the next one is scheduled while one runs, except on the CPU.
BATCHES_IN_FLIGHT_CUDA = 2
BATCHES_IN_FLIGHT_CPU = 1


@dataclass(frozen=True, slots=True)
class Term:
    """One part of the memory. `is_estimate` where no GPU has confirmed the formula."""

    name: str
    num_bytes: int
    formula: str
    source: str
    is_estimate: bool = False


@dataclass(frozen=True)
class Plan:
    """For one GPU of those that share the model, or for the CPU."""

    shape: ModelShape
    device: Device
    settings: Resolved
    weights: Mapping[str, int]
    weights_16_bit_bytes: int
    overheads: tuple[Term, ...]
    context_bytes: int
    kv_cache: KvCache

    @property
    def weights_bytes(self) -> int:
        return sum(self.weights.values())

    @property
    def budget_bytes(self) -> int:
        """What vLLM may take. On the CPU just what it will take."""
        if self.device.is_cpu:
            return self._fixed_bytes + self.settings.cpu_kv_cache_bytes
        return ceil(self.device.total_bytes * self.settings.gpu_memory_utilization)

    @property
    def _fixed_bytes(self) -> int:
        return self.weights_bytes + sum(term.num_bytes for term in self.overheads)

    def overhead(self, name: str) -> int:
        return sum(term.num_bytes for term in self.overheads if term.name == name)

    @property
    def estimated_bytes(self) -> int:
        """The part of it that no measurement stands behind."""
        return sum(term.num_bytes for term in self.overheads if term.is_estimate)

    @property
    def kv_bytes(self) -> int:
        """What is left for the KV cache; negative where the rest alone is too much."""
        return self.budget_bytes - self._fixed_bytes

    @property
    def num_blocks(self) -> int:
        return self.kv_cache.num_blocks(self.kv_bytes)

    @property
    def kv_tokens(self) -> int:
        return self.kv_cache.num_tokens(self.num_blocks, self.settings.max_model_len)

    @property
    def full_sequences(self) -> int:
        """Sequences of `max_model_len` that fit at once, whatever `max_num_seqs` says."""
        return self.sequences_at(self.settings.max_model_len)

    def sequences_at(self, num_tokens: int) -> int:
        return self.kv_cache.num_sequences(self.num_blocks, num_tokens)

    def longest_for(self, num_sequences: int) -> int:
        """The largest max_model_len at which so many sequences fit; 0 where none does."""
        limit = self.shape.architecture.max_positions or self.settings.max_model_len
        return self.kv_cache.longest_sequence(self.num_blocks, num_sequences, limit)

    @property
    def one_sequence_bytes(self) -> int:
        """The KV cache that one sequence of max_model_len needs: the least that is of use."""
        blocks = self.kv_cache.blocks_of_sequence(self.settings.max_model_len) + NULL_BLOCKS
        return blocks * self.kv_cache.block_bytes

    @property
    def shortage_bytes(self) -> int:
        """How much vLLM's share lacks for one sequence of max_model_len; 0 where it fits."""
        return max(self.one_sequence_bytes - self.kv_bytes, 0)

    @property
    def free_shortage_bytes(self) -> int:
        """How much the memory that is free now lacks; 0 where it suffices."""
        return max(self.budget_bytes + self.context_bytes - self.device.free_bytes, 0)

    @property
    def fits(self) -> bool:
        return not self.shortage_bytes and not self.free_shortage_bytes

    @property
    def kv_bytes_at_16_bit(self) -> int:
        if self.device.is_cpu:  # its KV cache has the size that was set, whatever the weights take
            return self.kv_bytes
        return self.kv_bytes - (self.weights_16_bit_bytes - self.weights_bytes)

    @property
    def kv_tokens_at_16_bit(self) -> int:
        blocks = self.kv_cache.num_blocks(self.kv_bytes_at_16_bit)
        return self.kv_cache.num_tokens(blocks, self.settings.max_model_len)


def make_plan(shape: ModelShape, device: Device, knobs: Knobs) -> Plan:
    """Raises SettingsError for settings that cannot be."""
    settings = resolve(knobs, shape, device)
    placement = Placement(settings.dtype_bytes, settings.tensor_parallel_size, device.is_cpu)
    return Plan(
        shape=shape,
        device=device,
        settings=settings,
        weights=weights_by_kind(shape, placement),
        weights_16_bit_bytes=weights_at_16_bit(shape, placement),
        overheads=tuple(overhead_terms(shape, device, settings)),
        context_bytes=0 if device.is_cpu else overheads.CONTEXT_BYTES,
        kv_cache=plan_kv_cache(shape, device, settings),
    )


def plan_kv_cache(shape: ModelShape, device: Device, settings: Resolved) -> KvCache:
    batches = BATCHES_IN_FLIGHT_CPU if device.is_cpu else BATCHES_IN_FLIGHT_CUDA
    return kv_cache_of(
        shape,
        settings.kv_value_bytes,
        settings.tensor_parallel_size,
        BLOCK_TOKENS_CPU if device.is_cpu else BLOCK_TOKENS_CUDA,
        batches * settings.max_num_batched_tokens,
    )


def overhead_terms(shape: ModelShape, device: Device, settings: Resolved) -> list[Term]:
    num_tokens, num_seqs = settings.max_num_batched_tokens, settings.max_num_seqs
    activations = overheads.activation_bytes(
        shape, num_tokens, num_seqs, settings.dtype_bytes, settings.tensor_parallel_size
    )
    formula = f"{num_tokens} tokens through the MLP, or logits of {num_seqs} sequences, x 1.25"
    source = "v1/worker/gpu_model_runner.py, profile_run"
    rotary = overheads.rotary_bytes(shape, settings.dtype_bytes)
    terms = [
        Term("rotary table", rotary, "positions x head_dim x bytes", "rotary_embedding/base.py"),
        Term("activations", activations, formula, source, is_estimate=True),
    ]
    if device.capability is None:
        return terms
    if not settings.enforce_eager:
        sizes = len(overheads.captured_sizes(num_tokens, num_seqs))
        layers = shape.architecture.num_layers
        graphs = overheads.graph_bytes(shape, num_tokens, num_seqs)
        formula = f"{sizes} batch sizes x {layers + 1} pieces x 0.25 MiB, full graphs x 2 MiB"
        source = "config/vllm.py, _set_cudagraph_sizes"
        terms.append(Term("CUDA graphs", graphs, formula, source, is_estimate=True))
    runtime = overheads.runtime_bytes(device.capability)
    formula = "cuBLAS and attention workspaces, modules"
    terms.append(Term("runtime", runtime, formula, WORKER, is_estimate=True))
    return terms
