import asyncio
import json
from typing import Any

import pytest
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest

from app.engine.fast_path.asgi import Message, Receive, Scope, Send
from app.engine.fast_path.fast_route import FastRoute, plain_apis
from app.engine.fast_path.plain_requests import (
    ALLOWED_OF_CHAT,
    ALLOWED_OF_COMPLETION,
    FREE,
    FREE_OF_CHAT,
    is_plain_chat,
    is_plain_completion,
)
from tests.unit.engine.fast_path.fast_client import COMPLETION_BODY, Case
from tests.unit.engine.fast_path.recorded_engine import RecordedEngine
from tests.unit.engine.fast_path.recorded_serving import RecordedChat, RecordedCompletion

PLAIN: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": "x"}],
    "stream": True,
}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"temperature": 0.5, "top_p": 0.9, "seed": 1, "stop": ["x"], "max_tokens": 5},
        {"stream_options": {"include_usage": True}},
        {"stream_options": None},
        {"n": 1, "logprobs": False, "tools": None, "tool_choice": "none"},
    ],
)
def test_a_plain_chat_is_plain(more: dict[str, Any]) -> None:
    assert is_plain_chat(PLAIN | more)


@pytest.mark.parametrize(
    "more",
    [
        {"stream": False},
        {"stream": 1},
        {"n": 2},
        {"n": True},
        {"logprobs": True},
        {"logprobs": 0},
        {"tools": []},
        {"tool_choice": "auto"},
        {"tool_choice": None},
        {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
        {"stream_options": True},
        {"response_format": {"type": "json_object"}},
        {"return_token_ids": True},
        {"echo": True},
        {"a_field_of_tomorrow": None},
    ],
)
def test_what_is_not_listed_is_not_plain(more: dict[str, Any]) -> None:
    assert not is_plain_chat(PLAIN | more)


def test_every_listed_field_is_one_of_vllm() -> None:
    assert FREE_OF_CHAT | ALLOWED_OF_CHAT.keys() <= ChatCompletionRequest.model_fields.keys()
    assert FREE | ALLOWED_OF_COMPLETION.keys() <= CompletionRequest.model_fields.keys()


@pytest.mark.parametrize(
    "more",
    [{}, {"prompt": [1, 2]}, {"max_tokens": 9, "stop": "x"}, {"echo": False, "logprobs": None}],
)
def test_a_plain_completion_is_plain(more: dict[str, Any]) -> None:
    assert is_plain_completion(COMPLETION_BODY | more)


@pytest.mark.parametrize(
    "more",
    [
        {"prompt": ["a"]},
        {"prompt": [[1]]},
        {"prompt": []},
        {"prompt": None},
        {"echo": True},
        {"logprobs": 0},
        {"suffix": "x"},
        {"n": 2},
        {"stream": False},
        {"messages": []},
        {"best_of": 1},
    ],
)
def test_another_completion_is_not(more: dict[str, Any]) -> None:
    assert not is_plain_completion(COMPLETION_BODY | more)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        json.dumps(PLAIN | {"n": 2}).encode(),
        json.dumps(PLAIN | {"temperature": "hot"}).encode(),
        json.dumps({"stream": True, "model": "m"}).encode(),
    ],
)
def test_what_is_not_plain_or_not_valid_reaches_the_stock_route_untouched(body: bytes) -> None:
    seen: list[bytes] = []

    async def stock(_: Scope, receive: Receive, __: Send) -> None:
        seen.append((await receive())["body"])

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(_: Message) -> None:
        raise AssertionError("answered by the fast path")

    route = FastRoute(Case(PLAIN, []).api(RecordedEngine()), None, stock)
    asyncio.run(route({"type": "http", "headers": []}, receive, send))
    assert seen == [body]


def test_a_serving_object_that_is_not_vllms_own_is_not_served_fast() -> None:
    engine = RecordedEngine()
    assert not list(plain_apis(RecordedChat(engine), RecordedCompletion(engine)))
    assert not list(plain_apis(None, None))
