"""What of a model decides its memory: its tensors, and how each layer keeps keys and values."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from app.core.checkpoint import Architecture, Checkpoint
from app.core.checkpoint_header import Tensor
from app.core.checkpoint_scheme import Scheme
from app.core.errors import CheckpointError

DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
LAYER_NUMBER = re.compile(r"\.\d+\.")
# One layer in so many attends to everything, where config.json leaves the pattern to the code.
FULL_LAYER_EVERY = {"gemma2": 2, "gemma3": 6, "gemma3_text": 6, "cohere2": 4}


class UnplannableError(CheckpointError):
    """The checkpoint may be sound; its memory is not what the planner knows."""


@dataclass(frozen=True)
class ModelShape:
    """`windows` has a place for every layer: its sliding window, or None for full attention."""

    architecture: Architecture
    scheme: Scheme
    tensors: tuple[Tensor, ...]
    windows: tuple[int | None, ...]

    @property
    def name(self) -> str:
        return self.architecture.name

    @cached_property
    def tensor_kinds(self) -> tuple[tuple[Tensor, int], ...]:
        """One tensor for all layers that have the same, and how many: a plan is made in a search,
        so it must not go through thousands of tensors each time.
        """
        kinds: dict[tuple[object, ...], Tensor] = {}
        counts: Counter[tuple[object, ...]] = Counter()
        for tensor in self.tensors:
            key = (LAYER_NUMBER.sub(".", tensor.name), tensor.dtype, tensor.shape)
            kinds.setdefault(key, tensor)
            counts[key] += 1
        return tuple((tensor, counts[key]) for key, tensor in kinds.items())


def shape_of(checkpoint: Checkpoint, config: dict[str, Any]) -> ModelShape:
    """Raises UnplannableError for networks whose memory is not that of ordinary attention."""
    text = config.get("text_config")
    values = {**config, **text} if isinstance(text, dict) else config
    refuse_other_memory(values)
    architecture = checkpoint.architecture
    return ModelShape(
        architecture, checkpoint.scheme, checkpoint.tensors, windows_of(architecture, values)
    )


def refuse_other_memory(config: dict[str, Any]) -> None:
    """Latent attention and recurrent layers keep other things than keys and values."""
    if config.get("kv_lora_rank"):
        raise UnplannableError("Latent attention (kv_lora_rank) has a KV cache of another form.")
    kinds = set(map(str, layer_types(config))) - {"full_attention", "sliding_attention"}
    if kinds or any(key.startswith("mamba_") for key in config):
        kind = min(kinds, default="mamba")
        raise UnplannableError(f"Layers of type {kind[:40]} cannot be planned.")


def layer_types(config: dict[str, Any]) -> Sequence[Any]:
    types = config.get("layer_types")
    return types if isinstance(types, list) else ()


def windows_of(architecture: Architecture, config: dict[str, Any]) -> tuple[int | None, ...]:
    """Which layers slide: as config.json lists them, or by the rule of the model's family."""
    window, num_layers = architecture.sliding_window, architecture.num_layers
    types = layer_types(config)
    if window is None or config.get("use_sliding_window") is False:
        return (None,) * num_layers
    if types:
        if len(types) != num_layers:
            raise CheckpointError(f"layer_types has {len(types)} entries for {num_layers} layers.")
        return tuple(window if kind == "sliding_attention" else None for kind in types)
    if every := FULL_LAYER_EVERY.get(architecture.model_type):
        return tuple(None if (i + 1) % every == 0 else window for i in range(num_layers))
    first = config.get("max_window_layers") or 0
    if type(first) is not int:
        raise CheckpointError(f"max_window_layers is no number: {str(first)[:40]}.")
    if not architecture.model_type.startswith("qwen2"):
        first = 0
    return tuple(window if i >= first else None for i in range(num_layers))
