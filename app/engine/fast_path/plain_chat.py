"""Which chat requests are plain. A field that is not listed here makes a request not plain."""

from collections.abc import Mapping
from typing import Any

# Fields that change what is generated, or how much, and nothing about how a chunk is worded.
FREE = frozenset(
    {
        *("messages", "model", "stream", "max_tokens", "max_completion_tokens", "user", "seed"),
        *("temperature", "top_p", "top_k", "min_p", "min_tokens", "ignore_eos", "stop"),
        *("stop_token_ids", "include_stop_str_in_output", "presence_penalty", "frequency_penalty"),
        *("repetition_penalty", "logit_bias", "stream_interval", "skip_special_tokens"),
    }
)
# Fields that are plain with these values alone.
ALLOWED: Mapping[str, tuple[Any, ...]] = {
    "n": (1, None),
    "logprobs": (False, None),
    "tools": (None,),
    "tool_choice": ("none",),
}


def is_plain(fields: Mapping[str, Any]) -> bool:
    """Whether a chat's body, as it was sent, asks for a stream of which only the text varies."""
    return fields.get("stream") is True and all(
        name in FREE or is_allowed(name, value) for name, value in fields.items()
    )


def is_allowed(name: str, value: Any) -> bool:
    if name == "stream_options":
        return value is None or (isinstance(value, dict) and value.keys() <= {"include_usage"})
    return any(
        value is each or (type(value) is type(each) and value == each)
        for each in ALLOWED.get(name, ())
    )
