"""What a GPU holds beside weights and KV cache. Estimates: each function says what it rests on.

Nobody has measured them here on a GPU; `make bench-memory` on one adds the measured rows to
docs/memory.md. They are kept on the safe side, so that a plan that fits does fit.
"""

from math import ceil

from app.core.gpus import FIRST_BF16, FIRST_WITHOUT_INT8, MIB
from app.core.memory.shape import ModelShape

# What the sampler holds for a logit: its float32 copy, probabilities, and the noise they are
# divided by (vllm/v1/sample/ops/topk_topp_sampler.py).
SAMPLER_BYTES_PER_LOGIT = 12
# PyTorch's allocator rounds blocks up and cannot always reuse one.
ALLOCATOR_SLACK = 1.25
# CUDA's context with vLLM's kernels, taken before vLLM counts, outside its share.
CONTEXT_BYTES = 512 * MIB
# cuBLAS workspaces, modules and attention buffers, which vLLM counts as its own.
RUNTIME_BYTES = 256 * MIB
# FlashInfer's workspace (VLLM_FLASHINFER_WORKSPACE_BUFFER_SIZE), where it is the backend.
FLASHINFER_BYTES = 394 * MIB
# A captured graph costs a driver structure for each of its pieces.
GRAPH_PIECE_BYTES = MIB // 4
FULL_GRAPH_BYTES = 2 * MIB
MAX_CAPTURED_TOKENS = 512


def activation_bytes(
    shape: ModelShape, num_tokens: int, num_seqs: int, dtype_bytes: int, num_gpus: int
) -> int:
    """The peak of vLLM's profile run: a step of `num_tokens`, then sampling for `num_seqs`.

    tokens x hidden x 2 (residual and output), and the larger of the MLP (gate and up, their
    product, and its quantized copy) and the sampler (the logits, and what is made of them).
    """
    architecture = shape.architecture
    inner = (architecture.intermediate_size or 4 * architecture.hidden_size) // num_gpus
    stream = num_tokens * architecture.hidden_size * 2 * dtype_bytes
    mlp = num_tokens * inner * (3 * dtype_bytes + 1)
    sampled = min(num_seqs, num_tokens) * architecture.vocab_size
    sampler = sampled * (dtype_bytes + SAMPLER_BYTES_PER_LOGIT)
    return ceil((stream + max(mlp, sampler)) * ALLOCATOR_SLACK)


def rotary_bytes(shape: ModelShape, dtype_bytes: int) -> int:
    """The table of sines and cosines that all layers share: positions x head_dim x bytes.

    A public log (vllm-project/vllm, pull request 17122) agrees: 14.9889 GiB once Llama-3.1-8B was
    loaded at 16 bit, which is its parameters, 14.9576, and this table, 0.0313.
    """
    architecture = shape.architecture
    return (architecture.max_positions or 0) * architecture.head_dim * dtype_bytes


def captured_sizes(num_tokens: int, num_seqs: int) -> tuple[int, ...]:
    """Batch sizes that vLLM captures as graphs (vllm/config/vllm.py, _set_cudagraph_sizes)."""
    largest = min(num_seqs * 2, MAX_CAPTURED_TOKENS, num_tokens)
    sizes = {1, 2, 4, *range(8, 256, 8), *range(256, MAX_CAPTURED_TOKENS + 1, 16)}
    exact = {size for size in (num_seqs, num_tokens) if size <= largest}
    return tuple(sorted({size for size in sizes if size <= largest} | exact))


def graph_bytes(shape: ModelShape, num_tokens: int, num_seqs: int) -> int:
    """Piecewise graphs (layers + 1 pieces) for each size, and full ones for decoding."""
    sizes = captured_sizes(num_tokens, num_seqs)
    pieces = len(sizes) * (shape.architecture.num_layers + 1)
    full = sum(1 for size in sizes if size <= num_seqs)
    return pieces * GRAPH_PIECE_BYTES + full * FULL_GRAPH_BYTES


def runtime_bytes(capability: tuple[int, int]) -> int:
    """FlashInfer serves what FlashAttention does not: Turing, and Blackwell."""
    has_flash_attention = FIRST_BF16 <= capability < FIRST_WITHOUT_INT8
    return RUNTIME_BYTES + (0 if has_flash_attention else FLASHINFER_BYTES)
