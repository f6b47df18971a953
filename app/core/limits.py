"""How much one request may ask for. Meanings and defaults: `limits` in config/default.yaml."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from app.core.errors import SettingsError
from app.core.key_limits import Limits
from app.core.request_fields import OPENABLE


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
