"""The answer to a plain request, on its way to the client."""

import json
from collections.abc import Awaitable
from typing import Any

from vllm.entrypoints.serve.engine.protocol import ErrorResponse

from app.core.client_connection import connection_of
from app.engine.fast_path.asgi import Receive, Scope, Send
from app.engine.fast_path.direct_answer import DirectAnswer, FindResponse
from app.engine.fast_path.leaving_client import unless_client_leaves
from app.engine.fast_path.stream_middle import StreamMiddle, current_middle

STREAM_TYPE = b"text/event-stream; charset=utf-8"
_ERROR = 'data: {"error"'


class AnswerStream:
    """A client that leaves ends it, and with it the request in the engine."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._client, self._receive, self._send = connection_of(scope), receive, send

    async def run(self, creating: Awaitable[Any], middle: StreamMiddle) -> None:
        """`creating` returns what vLLM's handler does: an error, or the parts of a stream, for
        which it takes the engine's outputs through `middle`."""
        await unless_client_leaves(self._answer(creating, middle), self._receive, self._client)

    async def run_direct(self, answer: DirectAnswer, find_response: FindResponse) -> None:
        answering = self._directly(answer, find_response)
        await unless_client_leaves(answering, self._receive, self._client)

    async def _directly(self, answer: DirectAnswer, find_response: FindResponse) -> None:
        answer.reserve()
        await self._start(200, STREAM_TYPE)
        await answer.stream(self.write, find_response)

    async def _answer(self, creating: Awaitable[Any], middle: StreamMiddle) -> None:
        token = current_middle.set(middle)
        try:
            answer = await creating
            if isinstance(answer, ErrorResponse):
                await self._refuse(answer)
            else:
                await self._stream(answer, middle)
        finally:
            current_middle.reset(token)

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
