"""Requests that are made without validation, and the same ones as vLLM's model makes them."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.exceptions import VLLMClientError

from app.engine.fast_path.plain_chat_request import PlainChatRequest, PlainChatRequests

pytestmark = pytest.mark.filterwarnings("ignore:max_tokens is deprecated:DeprecationWarning")

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
NUMBERS = st.none() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.integers()
ANYTHING: st.SearchStrategy[Any] = (
    NUMBERS | st.booleans() | TEXTS | st.lists(TEXTS, max_size=2) | st.just({})
)
PARTS = st.lists(st.builds(lambda text: {"type": "text", "text": text}, TEXTS), max_size=2)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "system", "tool", "developer"])},
        optional={"content": TEXTS | st.none() | PARTS, "name": TEXTS, "refusal": st.none()},
    ),
    max_size=3,
)
NAMES = (
    *("model", "user", "stream", "stop", "ignore_eos", "max_tokens", "max_completion_tokens"),
    *("top_k", "temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty"),
    *("repetition_penalty", "seed", "n", "tools", "logprobs", "stream_options", "echo", "unknown"),
)
PLAIN: dict[str, st.SearchStrategy[Any]] = {
    "model": TEXTS,
    "stream": st.booleans(),
    "stop": TEXTS.filter(bool) | st.lists(TEXTS.filter(bool), max_size=2),
    "ignore_eos": st.booleans(),
    "max_tokens": st.none() | st.integers(),
    "temperature": st.none() | st.floats(0, 2),
    "seed": st.none() | st.integers(),
    "n": st.sampled_from([None, 1, 2]),
    "stream_options": st.builds(lambda usage: {"include_usage": usage}, st.booleans()),
}
FIELDS = st.fixed_dictionaries(
    {"messages": MESSAGES},
    optional={name: PLAIN.get(name, ANYTHING) | ANYTHING for name in NAMES},
)


def made_by_vllm(fields: dict[str, Any]) -> dict[str, Any] | None:
    try:
        made = vars(ChatCompletionRequest.model_validate(fields))
    except (ValidationError, VLLMClientError, ValueError):
        return None
    return {name: made[name] for name in made if name != "request_id"}


def values_of(request: PlainChatRequest) -> dict[str, Any]:
    made = vars(request)
    return {name: made[name] for name in made if name != "request_id"}


@settings(max_examples=200, deadline=None)
@given(FIELDS)
def test_what_is_made_is_what_vllms_model_makes_of_it(fields: dict[str, Any]) -> None:
    request = PlainChatRequests().make(fields)
    if request is not None:
        assert values_of(request) == made_by_vllm(fields)


@settings(max_examples=100, deadline=None)
@given(
    st.fixed_dictionaries(
        {"messages": st.just([{"role": "user", "content": "x"}])},
        optional=PLAIN | {"max_tokens": st.integers(0, 99), "seed": st.integers(0, 9)},
    )
)
def test_plain_fields_are_judged_without_vllm(fields: dict[str, Any]) -> None:
    request = PlainChatRequests().make(fields)
    has_odd_options = "stream_options" in fields and not fields.get("stream")
    assert (request is None) == (fields.get("n") == 2 or has_odd_options)
    if request is not None:
        theirs = ChatCompletionRequest.model_validate(fields)
        params = theirs.to_sampling_params(5, {"top_k": 3})
        assert request.to_sampling_params(5, {"top_k": 3}) == params
        assert request.model_dump(exclude={"request_id"}) == theirs.model_dump(
            exclude={"request_id"}
        )


def test_one_request_shares_nothing_with_the_next() -> None:
    requests = PlainChatRequests()
    fields = {"messages": [{"role": "user", "content": "x"}]}
    first, second = requests.make(dict(fields)), requests.make(dict(fields))
    assert first is not None
    assert second is not None
    assert first.request_id != second.request_id
    for name, value in vars(first).items():
        if isinstance(value, list | dict) and name != "messages":
            assert value is not vars(second)[name], name


def test_nothing_is_made_without_messages() -> None:
    assert PlainChatRequests().make({"model": "m"}) is None
