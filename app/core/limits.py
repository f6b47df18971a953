"""How much one request may ask for. Meanings and defaults: `limits` in config/default.yaml."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from app.core.errors import SettingsError
from app.core.key_limits import Limits
from app.core.request_fields import OPENABLE

INT32, _INT64 = 2**31 - 1, 2**63 - 1
# Beyond these a number overflows in the sampler's tensors and takes the engine down with it, or
# means nothing. vLLM's own, narrower ranges still apply.
_RANGES: Mapping[str, tuple[float, float]] = {
    "seed": (-_INT64 - 1, _INT64),
    "top_k": (-1, INT32),
    "min_tokens": (0, INT32),
    "max_tokens": (0, INT32),
    "max_completion_tokens": (0, INT32),
    "max_output_tokens": (0, INT32),
    "max_tool_calls": (0, INT32),
    "thinking_token_budget": (-1, INT32),
    "truncate_prompt_tokens": (-1, INT32),
    "routed_experts_prompt_start": (0, INT32),
    "stream_interval": (1, INT32),
    "priority": (-INT32, INT32),
    "temperature": (0, 100),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "repetition_penalty": (0.01, 100),
    "length_penalty": (-100, 100),
}
_OUTPUT_LENGTHS = ("max_completion_tokens", "max_output_tokens", "max_tokens")


@dataclass(frozen=True)
class RequestLimits:
    """`max_output_tokens` None: what the context has left. `open_fields`: guarded fields that are
    taken all the same."""

    ignores_unknown_fields: bool
    open_fields: frozenset[str]
    allow_token_ids: bool
    max_n: int
    max_prompts: int
    max_sequences: int
    max_stop: int
    max_bad_words: int
    max_word_chars: int
    max_token_ids: int
    max_logit_bias: int
    max_logprobs: int
    max_prompt_logprobs: int
    max_output_tokens: int | None
    max_chars: int
    max_messages: int
    max_content_parts: int
    max_tools: int
    max_schema_bytes: int
    max_schema_depth: int
    max_schema_alternatives: int
    max_regex_chars: int
    max_repetition: int

    @cached_property
    def ranges(self) -> Mapping[str, tuple[float, float]]:
        """By field: the least and the greatest number that it may be."""
        configured = {
            "n": (1, self.max_n),
            "prompt_logprobs": (0, self.max_prompt_logprobs),
            "logprobs": (0, self.max_logprobs),
            "top_logprobs": (0, self.max_logprobs),
        }
        if (most := self.max_output_tokens) is not None:
            configured |= dict.fromkeys(_OUTPUT_LENGTHS, (0, most))
        return {**_RANGES, **configured}

    def of(self, owners: Iterable[Limits]) -> "RequestLimits":
        """With the bounds that a key and its tenant have instead; the lower one where both do."""
        own: dict[str, int] = {}
        for limits in owners:
            for name, most in limits.of_request.items():
                own[name] = min(most, own.get(name, most))
        return replace(self, **own) if own else self  # type: ignore[arg-type]


def parse_open_fields(text: str) -> frozenset[str]:
    """The names in `limits.open_fields`. Raises SettingsError for one that cannot be opened."""
    wanted = frozenset(text.replace(",", " ").split())
    if unknown := wanted - OPENABLE:
        raise SettingsError(
            f"limits.open_fields: {min(unknown)!r} cannot be opened; there are "
            f"{', '.join(sorted(OPENABLE))}."
        )
    return wanted
