"""The paged KV cache: how many blocks a memory holds, and how many a sequence takes.

Source: vLLM 0.32.0, v1/core/kv_cache_utils.py and v1/kv_cache_interface.py. One block holds
`block_tokens` tokens of every layer of a group; groups share one pool of blocks.
"""

from dataclasses import dataclass
from math import ceil

from app.core.memory.shape import ModelShape

BLOCK_TOKENS_CUDA = 16  # FlashAttention, FlashInfer and Triton on CUDA
BLOCK_TOKENS_CPU = 128  # vllm/platforms/cpu.py
NULL_BLOCKS = 1  # block 0 stands for "nothing here" and is never given out
# Layers of two kinds are put in equal groups of the rarer kind's size, unless the two are near.
NEAR_RATIO = 1.5


@dataclass(frozen=True, slots=True)
class Group:
    """Layers that share block tables: `window` is None for full attention."""

    window: int | None
    num_groups: int = 1


@dataclass(frozen=True, slots=True)
class KvCache:
    """`max_in_flight_tokens`: what may be scheduled before a sliding layer frees its past."""

    layer_token_bytes: int
    windows: tuple[int | None, ...]
    block_tokens: int
    max_in_flight_tokens: int

    @property
    def bytes_per_token(self) -> int:
        """Of a sequence short enough that no window has slid: 2 x layers x heads x dim x bytes."""
        return self.layer_token_bytes * len(self.windows)

    @property
    def layers_per_group(self) -> int:
        counts = self._layers_by_window().values()
        near = max(counts) < min(counts) * NEAR_RATIO
        return max(counts) if near else min(counts)

    @property
    def groups(self) -> tuple[Group, ...]:
        size = self.layers_per_group
        return tuple(Group(w, ceil(n / size)) for w, n in self._layers_by_window().items())

    @property
    def block_bytes(self) -> int:
        return self.layer_token_bytes * self.layers_per_group * self.block_tokens

    def _layers_by_window(self) -> dict[int | None, int]:
        return {window: self.windows.count(window) for window in dict.fromkeys(self.windows)}

    def num_blocks(self, num_bytes: int) -> int:
        return max(num_bytes, 0) // self.block_bytes

    def blocks_of_sequence(self, num_tokens: int) -> int:
        """Blocks that a sequence of so many tokens holds at most."""
        return sum(group.num_groups * self._blocks_of(group, num_tokens) for group in self.groups)

    def _blocks_of(self, group: Group, num_tokens: int) -> int:
        if group.window is None:
            return ceil(num_tokens / self.block_tokens)
        held = min(group.window - 1 + self.max_in_flight_tokens, num_tokens)
        return ceil(held / self.block_tokens) + 1  # a window need not begin with a block

    def num_tokens(self, num_blocks: int, max_model_len: int) -> int:
        """ "KV cache size" as the engine reports it: full-length sequences, in tokens."""
        return int(num_blocks / self.blocks_of_sequence(max_model_len) * max_model_len)

    def num_sequences(self, num_blocks: int, num_tokens: int) -> int:
        """Sequences of that length that can be held at once, to their last token."""
        return max(num_blocks - NULL_BLOCKS, 0) // self.blocks_of_sequence(num_tokens)

    def longest_sequence(self, num_blocks: int, num_sequences: int, limit: int) -> int:
        """The greatest length up to `limit` at which so many sequences fit; 0 where none does."""
        low, high = 0, limit
        while low < high:
            middle = (low + high + 1) // 2
            if self.num_sequences(num_blocks, middle) >= num_sequences:
                low = middle
            else:
                high = middle - 1
        return low


def kv_cache_of(
    shape: ModelShape,
    value_bytes: int,
    num_gpus: int,
    block_tokens: int,
    max_in_flight_tokens: int,
) -> KvCache:
    """On one GPU. Keys and values: 2 x KV heads x head_dim x bytes, per layer and token."""
    architecture = shape.architecture
    heads = max(architecture.num_kv_heads // num_gpus, 1)
    layer_token_bytes = 2 * heads * architecture.head_dim * value_bytes
    return KvCache(layer_token_bytes, shape.windows, block_tokens, max_in_flight_tokens)
