"""Asks both ways, with the same recorded outputs."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest

from app.core.raw_response import EXTENSION
from app.engine.fast_path.asgi import Message, Scope
from app.engine.fast_path.direct_streams import DirectStreams
from app.engine.fast_path.fast_route import FastRoute, PlainApi, chat_wording
from app.engine.fast_path.plain_requests import is_plain_chat, is_plain_completion
from app.engine.fast_path.wording import COMPLETION
from tests.unit.engine.fast_path.recorded_engine import Piece, RecordedEngine
from tests.unit.engine.fast_path.recorded_serving import RecordedChat, RecordedCompletion

CHAT_BODY: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": "x"}],
    "stream": True,
}
COMPLETION_BODY: dict[str, Any] = {"model": "m", "prompt": "x", "stream": True}
USAGE: dict[str, Any] = {"stream_options": {"include_usage": True}}


@dataclass
class Case:
    """A request, and what the engine says to it. `turns`: of the event loop between two steps."""

    body: dict[str, Any]
    pieces: Sequence[Piece]
    tool_parser: str | None = None
    turns: int = 30

    @property
    def is_chat(self) -> bool:
        return "messages" in self.body

    def api(self, engine: RecordedEngine) -> PlainApi:
        if self.is_chat:
            chat = RecordedChat(engine, self.tool_parser)
            create, wording = chat.create_chat_completion, chat_wording(chat)
            return PlainApi("/c", ChatCompletionRequest, is_plain_chat, wording, create)
        create = RecordedCompletion(engine).create_completion
        return PlainApi("/c", CompletionRequest, is_plain_completion, COMPLETION, create)


@dataclass
class Client:
    """Sends one request into a route and keeps what comes back: `parts` of a body, of which
    `num_direct` came past ASGI. It is a RawResponse too."""

    body: dict[str, Any]
    is_blocked: bool = False
    parts: list[bytes] = field(default_factory=list)
    num_direct: int = 0
    is_complete: bool = False
    has_asked: bool = False
    has_left: asyncio.Event = field(default_factory=asyncio.Event)

    def scope(self, name: str) -> Scope:
        headers = [(b"x-request-id", name.encode())]
        return {"type": "http", "headers": headers, "extensions": {EXTENSION: lambda _: self}}

    async def receive(self) -> Message:
        if not self.has_asked:
            self.has_asked = True
            return {"type": "http.request", "body": json.dumps(self.body).encode()}
        await self.has_left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            if message["body"]:
                self.parts.append(message["body"])
            self.is_complete = not message.get("more_body")

    def write(self, body: bytes) -> None:
        assert body
        assert not self.is_complete
        self.parts.append(body)
        self.num_direct += 1

    @property
    def content(self) -> bytes:
        return b"".join(self.parts)


async def refuse_stock(*_: object) -> None:
    raise AssertionError("the request did not take the fast path")


def fast_route(case: Case, engine: RecordedEngine, streams: DirectStreams | None) -> FastRoute:
    return FastRoute(case.api(engine), streams, refuse_stock)


async def play(case: Case, engine: RecordedEngine, name: str = "1") -> None:
    await engine.until_asked(name)
    for piece in case.pieces:
        await engine.step({name: piece}, case.turns)


def ask_fast(case: Case, *, past_asgi: bool = True) -> Client:
    async def ask() -> Client:
        engine = RecordedEngine()
        client = Client(case.body)
        route = fast_route(case, engine, DirectStreams(engine) if past_asgi else None)
        playing = asyncio.create_task(play(case, engine))
        await asyncio.wait_for(route(client.scope("1"), client.receive, client.send), 60)
        await playing
        return client

    return asyncio.run(ask())


def ask_stock(case: Case) -> bytes:
    async def ask() -> bytes:
        engine = RecordedEngine()
        api = case.api(engine)
        answer = await api.create(api.request_class.model_validate(case.body), None)
        playing = asyncio.create_task(play(case, engine))
        content = "".join([part async for part in answer]).encode()
        await playing
        return content

    return asyncio.run(ask())


def texts_of(content: bytes, *, is_chat: bool) -> tuple[str, list[Any]]:
    """All text of a stream, and everything else that its events say but in which chunk."""
    text, others = "", []
    for event in content.decode().split("\n\n"):
        data = event.removeprefix("data: ")
        if not data.startswith("{"):
            others.append(data)
            continue
        fields = json.loads(data)
        for choice in fields.get("choices", ()):
            holder = choice["delta"] if is_chat else choice
            text += holder.pop("content" if is_chat else "text", "") or ""
        if fields not in others:
            others.append(fields)
    return text, others
