"""Which requests are plain. A field that is not listed here makes a request not plain."""

from collections.abc import Mapping
from typing import Any

# Fields that change what is generated, or how much, and nothing about how a chunk is worded.
FREE = frozenset(
    {
        *("model", "stream", "max_tokens", "user", "seed", "stop"),
        *("temperature", "top_p", "top_k", "min_p", "min_tokens", "ignore_eos"),
        *("stop_token_ids", "include_stop_str_in_output", "presence_penalty", "frequency_penalty"),
        *("repetition_penalty", "logit_bias", "skip_special_tokens"),
    }
)
FREE_OF_CHAT = FREE | {"messages", "max_completion_tokens", "stream_interval"}
# Fields that are plain with these values alone.
ALLOWED: Mapping[str, tuple[Any, ...]] = {"n": (1, None)}
ALLOWED_OF_CHAT: Mapping[str, tuple[Any, ...]] = {
    **ALLOWED,
    "logprobs": (False, None),
    "tools": (None,),
    "tool_choice": ("none",),
}
ALLOWED_OF_COMPLETION: Mapping[str, tuple[Any, ...]] = {
    **ALLOWED,
    "logprobs": (None,),
    "echo": (False, None),
    "suffix": (None,),
}


def is_plain_chat(fields: Mapping[str, Any]) -> bool:
    """Whether a body, as it was sent, asks for a stream of which only the text varies."""
    return asks_only_for(fields, FREE_OF_CHAT, ALLOWED_OF_CHAT)


def is_plain_completion(fields: Mapping[str, Any]) -> bool:
    """As `is_plain_chat`; of one prompt, as text or as tokens."""
    prompt = fields.get("prompt")
    is_one = isinstance(prompt, str) or (
        isinstance(prompt, list) and bool(prompt) and isinstance(prompt[0], int)
    )
    others = {name: value for name, value in fields.items() if name != "prompt"}
    return is_one and asks_only_for(others, FREE, ALLOWED_OF_COMPLETION)


def asks_only_for(
    fields: Mapping[str, Any], free: frozenset[str], allowed: Mapping[str, tuple[Any, ...]]
) -> bool:
    return fields.get("stream") is True and all(
        name in free or is_allowed(name, value, allowed) for name, value in fields.items()
    )


def is_allowed(name: str, value: Any, allowed: Mapping[str, tuple[Any, ...]]) -> bool:
    if name == "stream_options":
        return value is None or (isinstance(value, dict) and value.keys() <= {"include_usage"})
    return any(
        value is each or (type(value) is type(each) and value == each)
        for each in allowed.get(name, ())
    )
