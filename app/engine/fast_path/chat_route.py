"""The chat route for plain streams, in place of FastAPI's around vLLM's handler. Pure ASGI."""

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from pydantic import ValidationError
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
from vllm.entrypoints.serve.engine.protocol import ErrorResponse

from app.engine.fast_path.plain_chat import is_plain
from app.engine.fast_path.stream_middle import StreamMiddle, current_middle

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

STREAM_TYPE = b"text/event-stream; charset=utf-8"


class Headers(dict[str, str]):
    """A request's headers, found in any case, as vLLM's handlers look for them."""

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)


@dataclass
class RawRequest:
    """What vLLM's chat handler reads of a Starlette request."""

    headers: Headers
    state: SimpleNamespace = field(default_factory=SimpleNamespace)


class ChatRoute:
    """`stock` is the route as it would be without this, and takes whatever is not plain."""

    def __init__(self, serving: OpenAIServingChat, stock: App) -> None:
        self._serving = serving
        self._stock = stock
        tap_streams(serving)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        request = None if message.get("more_body") else read_plain(message.get("body", b""))
        if request is None:
            await self._stock(scope, replay(message, receive), send)
        else:
            await ChatStream(receive, send).run(self._serving, request, raw_request(scope))


def read_plain(body: bytes) -> ChatCompletionRequest | None:
    """None where it is not plain, or not valid: then vLLM's own route says what is wrong."""
    try:
        fields = json.loads(body)
        if isinstance(fields, dict) and is_plain(fields):
            return ChatCompletionRequest.model_validate(fields)
    except (ValueError, ValidationError, RecursionError):
        pass
    return None


def raw_request(scope: Scope) -> RawRequest:
    pairs = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
    return RawRequest(Headers(pairs))


def replay(message: Message, receive: Receive) -> Receive:
    """A `receive` that gives `message` once more."""
    pending = [message]

    async def receive_replayed() -> Message:
        return pending.pop() if pending else await receive()

    return receive_replayed


class ChatStream:
    """One answer. A client that leaves ends it, and with it the request in the engine."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._client_left = False

    async def run(
        self, serving: OpenAIServingChat, request: ChatCompletionRequest, raw: RawRequest
    ) -> None:
        middle = StreamMiddle(self._write)
        task = asyncio.current_task()
        watching = asyncio.create_task(self._watch(task)) if task else None
        token = current_middle.set(middle)
        try:
            answer = await serving.create_chat_completion(request, raw)
            if isinstance(answer, ErrorResponse):
                await self._refuse(answer)
            else:
                await self._stream(answer, middle)
        except asyncio.CancelledError:
            if not self._client_left or task is None:
                raise
            task.uncancel()
        finally:
            current_middle.reset(token)
            if watching is not None:
                watching.cancel()

    async def _stream(self, answer: Any, middle: StreamMiddle) -> None:
        try:
            await self._start(200, STREAM_TYPE)
            async for part in answer:
                middle.add(part.encode())
            await self._write(middle.taken(), more=False)
        finally:
            await answer.aclose()
            await middle.aclose()

    async def _start(self, status: int, content_type: bytes) -> None:
        headers = [(b"content-type", content_type)]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _write(self, body: bytes, *, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def _refuse(self, answer: ErrorResponse) -> None:
        await self._start(answer.error.code, b"application/json")
        await self._write(json.dumps(answer.model_dump()).encode(), more=False)

    async def _watch(self, task: asyncio.Task[Any] | None) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if task is not None:
            self._client_left = True
            task.cancel()


def tap_streams(serving: OpenAIServingChat) -> None:
    """vLLM's stream generator reads the outputs of a plain stream through its StreamMiddle."""
    generate = serving.chat_completion_stream_generator

    def tapped(request: ChatCompletionRequest, outputs: Any, *rest: Any, **options: Any) -> Any:
        middle = current_middle.get()
        return generate(request, middle.take(outputs) if middle else outputs, *rest, **options)

    serving.chat_completion_stream_generator = tapped


def can_serve(serving: Any) -> bool:
    """Whether this server words plain streams plainly: vLLM's own class, no reasoning, a tool
    parser at most, which lets the text of a request without tools pass, nothing forced or logged.
    """
    if type(serving) is not OpenAIServingChat:
        return False
    if serving.enable_force_include_usage or serving.enable_log_outputs:
        return False
    parser = serving.parser_cls
    if parser is None:
        return True
    made = parser(serving.renderer.tokenizer, None, model_config=serving.model_config)
    return made._reasoning_parser is None and not made._engine_based
