"""The fast path and vLLM's own, fed the same outputs, write the same bytes."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.exceptions import GenerationError

from app.engine.fast_path.chat_route import ChatRoute, Message, Scope
from tests.unit.engine.fast_path.recorded_chat import Piece, RecordedChat, Recording

BODY: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": "x"}],
    "stream": True,
}
USAGE: dict[str, Any] = {"stream_options": {"include_usage": True}}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
PARSERS = (None, "llama3_json")


@pytest.fixture(autouse=True)
def still_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """`created` is the second in which a stream begins."""
    module = "vllm.entrypoints.openai.chat_completion.serving.time.time"
    monkeypatch.setattr(module, lambda: 1_700_000_000.0)


class Client:
    """Sends one request into the route and keeps what comes back. `leaves_after`: it is gone once
    so many messages have come."""

    def __init__(self, body: dict[str, Any], leaves_after: int | None = None) -> None:
        self.body = json.dumps(body).encode()
        self.leaves_after = leaves_after
        self.messages: list[Message] = []
        self._has_asked = False
        self._has_left = asyncio.Event()

    async def receive(self) -> Message:
        if not self._has_asked:
            self._has_asked = True
            return {"type": "http.request", "body": self.body, "more_body": False}
        await self._has_left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.messages.append(message)
        if self.leaves_after is not None and len(self.messages) >= self.leaves_after:
            self._has_left.set()

    @property
    def content(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)


async def refuse_stock(*_: object) -> None:
    raise AssertionError("the request did not take the fast path")


async def ask_fast(chat: RecordedChat, client: Client) -> None:
    scope: Scope = {"type": "http", "headers": [(b"x-request-id", b"1")]}
    await ChatRoute(chat, refuse_stock).__call__(scope, client.receive, client.send)


def fast(recording: Recording, parser: str | None, **options: Any) -> Client:
    client = Client(BODY | options)
    asyncio.run(ask_fast(RecordedChat(recording, tool_parser=parser), client))
    return client


def stock(recording: Recording, parser: str | None, **options: Any) -> bytes:
    async def collect() -> bytes:
        chat = RecordedChat(recording, tool_parser=parser)
        request = ChatCompletionRequest.model_validate(BODY | options)
        parts = [part async for part in await chat.create_chat_completion(request)]
        return "".join(parts).encode()

    return asyncio.run(collect())


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.builds(Piece, TEXTS, st.integers(1, 4)), max_size=8),
    st.builds(
        Piece,
        TEXTS,
        st.integers(0, 2),
        st.sampled_from(["stop", "length", "abort"]),
        st.none() | st.integers(0, 9) | TEXTS,
    ),
    st.sampled_from(PARSERS),
    st.booleans(),
)
def test_a_stream_is_the_same_to_the_byte(
    middle: list[Piece], last: Piece, parser: str | None, usage: bool
) -> None:
    pieces = [*middle, last]
    options = USAGE if usage else {}
    expected = stock(Recording(pieces), parser, **options)
    assert fast(Recording(pieces), parser, **options).content == expected


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize(
    "texts",
    [
        ["a", "\u0000\u001f\u007f", '"\\\n\r\t\b\f/', "é", "\u2028", "\ud7ff\ue000", "😀", "b"],
        ["", "", "a", "", "b", ""],
        ["data: [DONE]\n\n", 'data: {"error": 1}\n\n', '"delta":{"content":"x"'],
        ["{", '"name": "f"', "}"],
        ["<|python_tag|>", "x"],
    ],
)
def test_texts_that_could_be_mistaken_are_not(texts: Sequence[str], parser: str | None) -> None:
    pieces = [*(Piece(text) for text in texts), Piece("end", 1, "stop")]
    expected = stock(Recording(pieces), parser, **USAGE)
    assert fast(Recording(pieces), parser, **USAGE).content == expected


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("num_before", [0, 1, 2, 5])
@pytest.mark.parametrize("error", [GenerationError("Internal server error"), ValueError("why")])
def test_an_error_is_the_same_wherever_it_comes(
    error: Exception, num_before: int, parser: str | None
) -> None:
    pieces = [Piece("a")] * num_before
    expected = stock(Recording(pieces, error), parser, **USAGE)
    assert b'"error"' in expected
    assert fast(Recording(pieces, error), parser, **USAGE).content == expected


@pytest.mark.parametrize("finish_reason", ["error", "repetition"])
def test_an_unusual_end_is_the_same(finish_reason: str) -> None:
    pieces = [Piece("a"), Piece("b"), Piece("c", 1, finish_reason)]
    assert fast(Recording(pieces), None).content == stock(Recording(pieces), None)


def test_one_message_per_output_and_one_for_all_that_ends_the_stream() -> None:
    pieces = [*(Piece(text) for text in "abcd"), Piece("e", 1, "stop")]
    client = fast(Recording(pieces), None, **USAGE)
    start, *bodies = client.messages
    assert (start["status"], start["headers"][0][1][:17]) == (200, b"text/event-stream")
    assert [body["body"].count(b"data: ") for body in bodies] == [2, 1, 1, 1, 3]
    assert [body["more_body"] for body in bodies] == [True, True, True, True, False]


def test_a_client_that_leaves_ends_its_request_and_nothing_else() -> None:
    async def leave() -> tuple[Recording, Client]:
        recording = Recording([Piece("a"), Piece("b")], hangs=True)
        client = Client(BODY, leaves_after=3)
        await asyncio.wait_for(ask_fast(RecordedChat(recording, tool_parser=None), client), 10)
        return recording, client

    recording, client = asyncio.run(leave())
    assert recording.closed.is_set()
    assert b"[DONE]" not in client.content


def test_a_client_that_left_before_the_first_output_ends_its_request() -> None:
    async def leave() -> Recording:
        recording = Recording([], hangs=True)
        client = Client(BODY, leaves_after=1)
        await asyncio.wait_for(ask_fast(RecordedChat(recording, tool_parser=None), client), 10)
        return recording

    assert asyncio.run(leave()).closed.is_set()


def test_being_cancelled_from_outside_is_not_mistaken_for_a_client_that_left() -> None:
    async def cancel() -> Recording:
        recording = Recording([Piece("a")], hangs=True)
        asking = asyncio.create_task(
            ask_fast(RecordedChat(recording, tool_parser=None), Client(BODY))
        )
        await asyncio.sleep(0.05)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        return recording

    assert asyncio.run(cancel()).closed.is_set()


def test_a_fault_of_the_fast_path_costs_its_own_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> bytes:
        raise ZeroDivisionError

    pieces = [*(Piece(text) for text in "abc"), Piece("d", 1, "stop")]
    with monkeypatch.context() as patched:
        patched.setattr("app.engine.fast_path.stream_middle.encode", fail)
        broken = fast(Recording(pieces), None)
    assert broken.content.endswith(b"data: [DONE]\n\n")
    assert b'"error"' in broken.content
    assert fast(Recording(pieces), None).content == stock(Recording(pieces), None)


def numbered(number: int) -> list[Piece]:
    return [Piece(f"{number}-{part}") for part in range(9)]


def test_streams_at_the_same_time_do_not_mix() -> None:
    async def ask_all() -> list[bytes]:
        clients = [Client(BODY | USAGE) for _ in range(20)]
        chats = [
            RecordedChat(
                Recording(
                    [*(Piece(f"{number}-{part}") for part in range(9)), Piece("", 1, "stop")]
                ),
                tool_parser=None,
            )
            for number in range(20)
        ]
        pairs = zip(chats, clients, strict=True)
        await asyncio.gather(*(ask_fast(chat, client) for chat, client in pairs))
        return [client.content for client in clients]

    for number, content in enumerate(asyncio.run(ask_all())):
        assert content.count(b'"content":"%d-' % number) == 9
