"""Chat requests that need no validation: made of a body in which nothing is left to be judged."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

from vllm.entrypoints.generate.base.protocol import StreamOptions
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.utils import random_uuid

ROLES = frozenset({"user", "assistant", "system"})
MESSAGE_FIELDS = {"role", "content"}


class PlainChatRequest(ChatCompletionRequest):  # type: ignore[misc]
    """vLLM's own request, of plain texts, with neither tools nor an argument for the template.

    `max_tokens` is only named again because vLLM has it warn whenever it is read.
    """

    max_tokens: int | None = None


def is_text(value: Any) -> bool:
    return type(value) is str


def is_whole(value: Any) -> bool:
    return value is None or type(value) is int


def is_number(value: Any) -> bool:
    return value is None or type(value) is float


def is_switch(value: Any) -> bool:
    return type(value) is bool


def is_stop(value: Any) -> bool:
    return is_text(value) or (type(value) is list and all(map(is_text, value)))


def are_plain_options(value: Any) -> bool:
    return type(value) is dict and value.keys() == {"include_usage"} and is_switch(*value.values())


def are_plain_messages(value: Any) -> bool:
    return type(value) is list and bool(value) and all(map(is_plain_message, value))


def is_plain_message(message: Any) -> bool:
    return (
        type(message) is dict
        and message.keys() == MESSAGE_FIELDS
        and message["role"] in ROLES
        and type(message["content"]) is str
    )


# Field by field, what vLLM's model takes as it is, and gives on as it is.
_JUDGES: Mapping[str, Callable[[Any], bool]] = {
    "model": is_text,
    "user": is_text,
    "messages": are_plain_messages,
    "stream": is_switch,
    "stop": is_stop,
    "ignore_eos": is_switch,
    "stream_options": are_plain_options,
    **dict.fromkeys(("max_tokens", "max_completion_tokens", "top_k"), is_whole),
    **dict.fromkeys(("temperature", "top_p", "min_p"), is_number),
    **dict.fromkeys(("presence_penalty", "frequency_penalty", "repetition_penalty"), is_number),
    "seed": lambda value: is_whole(value) and abs(value or 0) < 2**63,
    "n": lambda value: value is None or (type(value) is int and value == 1),
}


def needs_no_validation(fields: Mapping[str, Any]) -> bool:
    """Whether vLLM's model would take a chat's body as it is."""
    judges = _JUDGES
    for name, value in fields.items():
        judge = judges.get(name)
        if judge is None or not judge(value):
            return False
    return "messages" in fields and (not fields.get("stream_options") or bool(fields.get("stream")))


class PlainChatRequests:
    """Makes them of fields that are there, and of vLLM's defaults for the others."""

    def __init__(self) -> None:
        message = {"role": "user", "content": "x"}
        sample = PlainChatRequest.model_validate({"messages": [message]})
        self._defaults: dict[str, Any] = vars(sample)
        self._private: dict[str, Any] = sample.__pydantic_private__
        self._own = {
            name: value for name, value in self._defaults.items() if isinstance(value, list | dict)
        }

    def make(self, fields: dict[str, Any]) -> PlainChatRequest | None:
        """None where vLLM's model has to judge."""
        if not needs_no_validation(fields):
            return None
        options = fields.get("stream_options")
        values = {**self._defaults, **{name: copy.copy(each) for name, each in self._own.items()}}
        values |= fields
        if options:
            values["stream_options"] = StreamOptions(**options)
        values["request_id"] = random_uuid()
        request = PlainChatRequest.__new__(PlainChatRequest)
        object.__setattr__(request, "__dict__", values)
        object.__setattr__(request, "__pydantic_fields_set__", set(fields))
        object.__setattr__(request, "__pydantic_extra__", {})
        object.__setattr__(request, "__pydantic_private__", dict(self._private))
        return request
