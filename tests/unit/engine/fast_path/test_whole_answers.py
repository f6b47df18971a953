"""Answers that are not streamed, beside FastAPI's route around vLLM's handler."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from hypothesis import given, settings
from hypothesis import strategies as st
from vllm.entrypoints.generate.base.protocol import FunctionCall, ToolCall
from vllm.entrypoints.openai.chat_completion.api_router import router as chat_router
from vllm.entrypoints.openai.chat_completion.protocol import (
    ChatCompletionLogProb,
    ChatCompletionLogProbs,
    ChatCompletionLogProbsContent,
    ChatCompletionRequest,
    ChatCompletionResponse,
    ChatCompletionResponseChoice,
    ChatMessage,
)
from vllm.entrypoints.openai.completion.protocol import (
    CompletionLogProbs,
    CompletionRequest,
    CompletionResponse,
    CompletionResponseChoice,
)
from vllm.entrypoints.serve import create_error_response
from vllm.entrypoints.serve.engine.protocol import UsageInfo
from vllm.exceptions import VLLMValidationError

from app.core.parsed_body import hand_on
from app.engine.fast_path.asgi import Message, Receive, Scope, Send
from app.engine.fast_path.whole_answers import WholeAnswers, WholeApi, json_of, whole_apis

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
FLOATS = st.floats(-1e6, 0) | st.sampled_from([-0.0, -1e-7, -123456789.123, -9999.0, 1e-300])
PATH = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
USAGES = st.builds(UsageInfo, prompt_tokens=st.integers(0, 9), total_tokens=st.integers(0, 99))
CHAT_LOGPROBS = st.builds(
    ChatCompletionLogProbs,
    content=st.lists(
        st.builds(
            ChatCompletionLogProbsContent,
            token=TEXTS,
            logprob=FLOATS,
            bytes=st.none() | st.lists(st.integers(0, 255), max_size=3),
            top_logprobs=st.lists(
                st.builds(ChatCompletionLogProb, token=TEXTS, logprob=FLOATS), max_size=2
            ),
        ),
        max_size=3,
    ),
)
TOOL_CALLS = st.lists(
    st.builds(ToolCall, function=st.builds(FunctionCall, name=TEXTS, arguments=TEXTS)), max_size=2
)
CHATS = st.builds(
    ChatCompletionResponse,
    model=TEXTS,
    choices=st.lists(
        st.builds(
            ChatCompletionResponseChoice,
            index=st.integers(0, 3),
            message=st.builds(
                ChatMessage,
                role=st.just("assistant"),
                content=st.none() | TEXTS,
                tool_calls=TOOL_CALLS,
                reasoning=st.none() | TEXTS,
            ),
            logprobs=st.none() | CHAT_LOGPROBS,
            finish_reason=st.sampled_from(["stop", "length", "tool_calls"]),
            stop_reason=st.none() | st.integers(0, 9) | TEXTS,
            token_ids=st.none() | st.lists(st.integers(0, 9), max_size=3),
        ),
        max_size=3,
    ),
    usage=USAGES,
    system_fingerprint=st.none() | TEXTS,
    prompt_token_ids=st.none() | st.lists(st.integers(0, 9), max_size=3),
    kv_transfer_params=st.none() | st.just({"seconds": 1e-7}),
)
COMPLETIONS = st.builds(
    CompletionResponse,
    model=TEXTS,
    choices=st.lists(
        st.builds(
            CompletionResponseChoice,
            index=st.integers(0, 3),
            text=TEXTS,
            logprobs=st.none()
            | st.builds(CompletionLogProbs, token_logprobs=st.lists(FLOATS, max_size=3)),
            finish_reason=st.sampled_from(["stop", "length"]),
        ),
        max_size=3,
    ),
    usage=USAGES,
)


@settings(max_examples=300, deadline=None)
@given(CHATS | COMPLETIONS)
def test_an_answer_is_worded_to_the_byte_as_by_vllms_route(answer: Any) -> None:
    assert json_of(answer) == JSONResponse(answer.model_dump()).body


def answer_to(request: ChatCompletionRequest, raw: Any) -> ChatCompletionResponse:
    """Says what the handler was given."""
    fields = request.model_dump(mode="json", exclude={"request_id"})
    seen = json.dumps([fields, raw.headers.get("X-Request-Id")], sort_keys=True)
    choice = ChatCompletionResponseChoice(
        index=0, message=ChatMessage(role="assistant", content=seen), finish_reason="stop"
    )
    usage = UsageInfo(prompt_tokens=1, total_tokens=2, completion_tokens=1)
    return ChatCompletionResponse(
        id="chatcmpl-1", created=1, model="m", choices=[choice], usage=usage
    )


class Serving:
    """Stands for vLLM's serving object."""

    def __init__(self, create: Callable[[Any, Any], Awaitable[Any]]) -> None:
        self.create_chat_completion = create


async def refuse_stock(*_: object) -> None:
    raise AssertionError("took the stock route")


async def refuse_answer(_: Message) -> None:
    raise AssertionError("answered")


Sent = tuple[int, dict[str, str], bytes]


def stock_app(serving: Serving) -> FastAPI:
    app = FastAPI()
    app.include_router(chat_router)
    app.state.openai_serving_chat = serving
    return app


def ask(app: Any, body: dict[str, Any]) -> Sent:
    async def send() -> Sent:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            answer = await client.post(PATH, json=body, headers={"x-request-id": "7"})
            return answer.status_code, dict(answer.headers), answer.content

    return asyncio.run(send())


def with_parsed_body(app: Any, fields: dict[str, Any]) -> Any:
    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        hand_on(scope, fields)
        await app(scope, receive, send)

    return call


def fast_app(serving: Serving, fields: dict[str, Any]) -> Any:
    apis = dict(whole_apis(serving, None))
    return with_parsed_body(WholeAnswers(apis[PATH], stock_app(serving)), fields)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"stream": False},
        {"n": 3, "temperature": "0.5", "max_tokens": 7, "stop": "x", "logprobs": True},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "é"}]}]},
        {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "auto"},
        {"response_format": {"type": "json_object"}, "user": "u", "seed": 3},
    ],
)
def test_the_handler_is_given_the_same_and_the_client_too(more: dict[str, Any]) -> None:
    async def create(request: Any, raw: Any) -> Any:
        return answer_to(request, raw)

    serving, body = Serving(create), BODY | more
    assert ask(fast_app(serving, body), body) == ask(stock_app(serving), body)


def test_what_the_handler_refuses_is_answered_the_same() -> None:
    async def create(request: Any, raw: Any) -> Any:
        return create_error_response("There is no such model.", status_code=HTTPStatus.NOT_FOUND)

    serving = Serving(create)
    status, headers, content = ask(fast_app(serving, BODY), BODY)
    assert (status, headers, content) == ask(stock_app(serving), BODY)
    assert status == 404


def test_what_the_handler_raises_is_raised() -> None:
    async def create(request: Any, raw: Any) -> Any:
        raise VLLMValidationError("too long")

    with pytest.raises(VLLMValidationError, match="too long"):
        ask(fast_app(Serving(create), BODY), BODY)


@pytest.mark.parametrize(
    "fields",
    [
        BODY | {"stream": True},
        BODY | {"stream": 1},
        BODY | {"temperature": "hot"},
        BODY | {"stream_options": {"include_usage": True}},
        {"model": "m"},
        None,
    ],
)
def test_streams_and_what_is_not_valid_take_the_stock_route(fields: Any) -> None:
    taken: list[Scope] = []

    async def stock(scope: Scope, receive: Receive, send: Send) -> None:
        taken.append(scope)

    async def create(request: Any, raw: Any) -> Any:
        raise AssertionError("answered without FastAPI")

    async def never(*_: Any) -> Any:
        raise AssertionError("nothing is read or sent")

    scope: Scope = {"type": "http", "headers": []}
    if fields is not None:
        hand_on(scope, fields)
    route = WholeAnswers(WholeApi(ChatCompletionRequest, create), stock)
    asyncio.run(route(scope, never, never))
    assert taken == [scope]


@pytest.mark.parametrize("swallows", [False, True])
def test_a_client_that_leaves_cancels_its_request_and_is_sent_nothing(swallows: bool) -> None:
    """vLLM's handlers make an error response of being cancelled."""
    ended: list[bool] = []

    async def create(request: Any, raw: Any) -> Any:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append(True)
            if swallows:
                return create_error_response("Client disconnected")
            raise

    messages: list[Message] = [
        {"type": "http.request", "body": b"{}", "more_body": False},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        await asyncio.sleep(0.01)
        return messages.pop(0)

    async def leave() -> int:
        scope: Scope = {"type": "http", "headers": []}
        hand_on(scope, {"model": "m", "prompt": "x"})
        route = WholeAnswers(WholeApi(CompletionRequest, create), refuse_stock)
        await route(scope, receive, refuse_answer)
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    assert asyncio.run(leave()) == 0
    assert ended == [True]


@pytest.mark.parametrize("swallows", [False, True])
def test_being_cancelled_from_outside_is_passed_on(swallows: bool) -> None:
    async def create(request: Any, raw: Any) -> Any:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if swallows:
                return create_error_response("Client disconnected")
            raise

    messages: list[Message] = [{"type": "http.request", "body": b"{}", "more_body": False}]

    async def receive() -> Message:
        if not messages:
            await asyncio.sleep(60)
        return messages.pop()

    async def cancel() -> None:
        scope: Scope = {"type": "http", "headers": []}
        hand_on(scope, {"model": "m", "prompt": "x"})
        route = WholeAnswers(WholeApi(CompletionRequest, create), refuse_stock)
        asking = asyncio.create_task(route(scope, receive, refuse_answer))
        await asyncio.sleep(0.02)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(cancel())


def test_only_the_serving_objects_that_there_are_get_a_route() -> None:
    assert dict(whole_apis(None, None)) == {}
