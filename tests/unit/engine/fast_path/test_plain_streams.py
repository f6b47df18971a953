"""Plain streams by pattern, and by vLLM's own generator."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vllm.entrypoints.generate.base.protocol import RequestResponseMetadata
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.exceptions import GenerationError
from vllm.outputs import CompletionOutput, RequestOutput

from app.engine.fast_path.plain_chat_request import PlainChatRequest, PlainChatRequests
from app.engine.fast_path.plain_streams import PlainStreams
from tests.unit.engine.fast_path.recorded_engine import RecordedEngine
from tests.unit.engine.fast_path.recorded_serving import CREATED, MODEL, RecordedChat, StubTokenizer

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["%(id)s 100%", "2222222222", "\x01content", '{"name": "f"}', "<|python_tag|>", "\u2028"]
)
FIELDS: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}], "stream": True}
USAGE = {"stream_options": {"include_usage": True}}
ENDS = st.sampled_from([None, "stop", "length", "abort", "error", "repetition"])


@pytest.fixture(autouse=True)
def still_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: float(CREATED))


def output_of(text: str, token_ids: Sequence[int], end: str | None, stop: Any) -> RequestOutput:
    completion = CompletionOutput(
        index=0,
        text=text,
        token_ids=token_ids,
        cumulative_logprob=None,
        logprobs=None,
        finish_reason=end,
        stop_reason=stop,
    )
    told: dict[str, Any] = {"prompt": "p", "prompt_token_ids": [4, 5], "prompt_logprobs": None}
    return RequestOutput("1", outputs=[completion], finished=end is not None, **told)


OUTPUTS = st.lists(
    st.builds(output_of, TEXTS, st.lists(st.integers(0, 9), max_size=3), st.none(), st.none()),
    max_size=4,
).flatmap(
    lambda middle: st.builds(
        lambda *last: [*middle, output_of(*last)],
        *(TEXTS, st.lists(st.integers(0, 9), max_size=2), ENDS),
        st.none() | st.integers(0, 9) | TEXTS,
    )
)


async def said(outputs: list[RequestOutput], fault: Exception | None) -> AsyncIterator[Any]:
    for output in outputs:
        yield output
    if fault is not None:
        raise fault


def serving_of(tool_parser: str | None, fingerprint: str | None) -> RecordedChat:
    serving = RecordedChat(RecordedEngine(), tool_parser)
    serving.system_fingerprint = fingerprint
    serving.models = SimpleNamespace(model_name=lambda _=None: MODEL)
    return serving


def stream_of(
    serving: RecordedChat, request: Any, outputs: list[RequestOutput], fault: Exception | None
) -> list[str]:
    async def read() -> list[str]:
        stream = serving.chat_completion_stream_generator(
            request,
            said(outputs, fault),
            "chatcmpl-%d",
            MODEL,
            [],
            StubTokenizer(),
            RequestResponseMetadata(request_id="1"),
        )
        return [part async for part in stream]

    return asyncio.run(read())


@settings(max_examples=400, deadline=None)
@given(
    outputs=OUTPUTS,
    usage=st.sampled_from([{}, USAGE, {"stream_options": {"include_usage": False}}]),
    tool_parser=st.sampled_from([None, "llama3_json"]),
    fingerprint=st.sampled_from([None, "fp%s"]),
    fault=st.sampled_from([None, None, GenerationError("x"), ValueError("a\nb")]),
)
def test_each_event_is_the_same_to_the_byte(
    outputs: list[RequestOutput],
    usage: dict[str, Any],
    tool_parser: str | None,
    fingerprint: str | None,
    fault: Exception | None,
) -> None:
    fields = FIELDS | usage
    plain = PlainChatRequests().make(fields)
    assert type(plain) is PlainChatRequest
    theirs = serving_of(tool_parser, fingerprint)
    ours = serving_of(tool_parser, fingerprint)
    PlainStreams(ours).install()
    validated = ChatCompletionRequest.model_validate(fields)
    assert stream_of(ours, plain, outputs, fault) == stream_of(theirs, validated, outputs, fault)


def test_other_requests_get_vllms_own_generator() -> None:
    serving = serving_of(None, None)
    stock = serving.chat_completion_stream_generator
    PlainStreams(serving).install()
    request = ChatCompletionRequest.model_validate(FIELDS)
    stream = serving.chat_completion_stream_generator(
        request, said([], None), "1", MODEL, [], StubTokenizer(), None
    )
    assert stream.ag_code is stock.__func__.__code__
