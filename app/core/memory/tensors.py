"""The tensors that a checkpoint of a known family has, from its config.json alone.

For planning a model that is not here. Names and shapes: transformers' modelling code of each
family; scales: compressed-tensors 0.19, one bf16 `weight_scale` of shape (N, 1) for each linear
layer that is not ignored.
"""

from collections.abc import Iterator

from app.core.checkpoint import Architecture
from app.core.checkpoint_header import ITEM_BITS, Tensor
from app.core.checkpoint_scheme import Scheme, SchemeName
from app.core.memory.shape import UnplannableError

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
STORED_DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
QUANTIZED_DTYPES = {SchemeName.W8A8_INT8: "I8", SchemeName.FP8: "F8_E4M3"}


def expected_tensors(architecture: Architecture, scheme: Scheme) -> tuple[Tensor, ...]:
    """Raises UnplannableError for a family or scheme whose tensors are not known."""
    if architecture.model_type not in FAMILIES or architecture.num_experts:
        raise UnplannableError(
            f"What tensors a {architecture.model_type[:40]} model has is not known; give a "
            f"checkpoint with its safetensors files."
        )
    if scheme.name is SchemeName.OTHER:
        raise UnplannableError("The tensors of this quantization are not known without its files.")
    matrix_dtype = QUANTIZED_DTYPES.get(scheme.name)
    float_dtype = STORED_DTYPES.get(architecture.dtype, "BF16")
    tensors: list[Tensor] = []
    for name, shape in float_tensors(architecture):
        tensors.append(tensor(name, float_dtype, shape))
    for name, (rows, columns) in matrices(architecture):
        tensors.append(tensor(f"{name}.weight", matrix_dtype or float_dtype, (rows, columns)))
        if matrix_dtype:
            tensors.append(tensor(f"{name}.weight_scale", "BF16", (rows, 1)))
    return tuple(tensors)


def float_tensors(architecture: Architecture) -> Iterator[tuple[str, tuple[int, ...]]]:
    """What stays in 16 bit: embeddings, the head, norms, biases."""
    hidden, vocab = architecture.hidden_size, architecture.vocab_size
    yield "model.embed_tokens.weight", (vocab, hidden)
    if not architecture.tied_embeddings:
        yield "lm_head.weight", (vocab, hidden)
    yield "model.norm.weight", (hidden,)
    for layer in range(architecture.num_layers):
        prefix = f"model.layers.{layer}"
        yield f"{prefix}.input_layernorm.weight", (hidden,)
        yield f"{prefix}.post_attention_layernorm.weight", (hidden,)
        if architecture.model_type == "qwen2":
            for name, rows in attention_rows(architecture).items():
                yield f"{prefix}.self_attn.{name}.bias", (rows,)
        if architecture.model_type == "qwen3":
            yield f"{prefix}.self_attn.q_norm.weight", (architecture.head_dim,)
            yield f"{prefix}.self_attn.k_norm.weight", (architecture.head_dim,)


def attention_rows(architecture: Architecture) -> dict[str, int]:
    queries = architecture.num_heads * architecture.head_dim
    keys = architecture.num_kv_heads * architecture.head_dim
    return {"q_proj": queries, "k_proj": keys, "v_proj": keys}


def matrices(architecture: Architecture) -> Iterator[tuple[str, tuple[int, int]]]:
    """The linear layers, as (rows, columns): outputs first."""
    hidden, inner = architecture.hidden_size, architecture.intermediate_size
    if inner is None:
        raise UnplannableError("config.json has no intermediate_size.")
    rows = attention_rows(architecture)
    for layer in range(architecture.num_layers):
        prefix = f"model.layers.{layer}"
        for name, count in rows.items():
            yield f"{prefix}.self_attn.{name}", (count, hidden)
        yield f"{prefix}.self_attn.o_proj", (hidden, rows["q_proj"])
        yield f"{prefix}.mlp.gate_proj", (inner, hidden)
        yield f"{prefix}.mlp.up_proj", (inner, hidden)
        yield f"{prefix}.mlp.down_proj", (hidden, inner)


def tensor(name: str, dtype: str, shape: tuple[int, ...]) -> Tensor:
    values = 1
    for size in shape:
        values *= size
    return Tensor(name, dtype, shape, values * ITEM_BITS[dtype] // 8, "", 0)
