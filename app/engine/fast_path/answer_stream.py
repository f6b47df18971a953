"""The answer to a plain request, on its way to the client."""

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from vllm.entrypoints.serve.engine.protocol import ErrorResponse

from app.engine.fast_path.stream_middle import StreamMiddle, current_middle

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

STREAM_TYPE = b"text/event-stream; charset=utf-8"
_ERROR = 'data: {"error"'


class AnswerStream:
    """A client that leaves ends it, and with it the request in the engine."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._client_left = False

    async def run(self, creating: Awaitable[Any], middle: StreamMiddle) -> None:
        """`creating` returns what vLLM's handler does: an error, or the parts of a stream, for
        which it takes the engine's outputs through `middle`."""
        task = asyncio.current_task()
        watching = asyncio.create_task(self._watch(task)) if task else None
        token = current_middle.set(middle)
        try:
            answer = await creating
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
                if part.startswith(_ERROR) and (before := middle.taken()):
                    await self.write(before)  # an error is only seen where a message begins with it
                middle.add(part.encode())
            await self.write(middle.taken(), more=False)
        finally:
            await answer.aclose()
            await middle.aclose()

    async def _start(self, status: int, content_type: bytes) -> None:
        headers = [(b"content-type", content_type)]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, body: bytes, *, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def _refuse(self, answer: ErrorResponse) -> None:
        await self._start(answer.error.code, b"application/json")
        await self.write(json.dumps(answer.model_dump()).encode(), more=False)

    async def _watch(self, task: asyncio.Task[Any] | None) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if task is not None:
            self._client_left = True
            task.cancel()
