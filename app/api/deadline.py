"""Ends a request at its deadline as if its client had left, and gives the client an answer."""

import asyncio
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.context import is_event_stream
from app.core.client_connection import unconnected
from app.core.errors import RequestError

# How long what runs may take to notice that its client is gone; then its task is cancelled.
_GRACE_S = 2.0


class Deadline:
    """Stands between the server and one request. Every route watches for a client that leaves, and
    then aborts in the engine; so that is what they are told when the time is over. What they say
    afterwards goes nowhere, but for the rest of an answer that has begun and is no stream.
    """

    def __init__(self, receive: Receive, send: Send, left_s: float) -> None:
        self._receive, self._send = receive, send
        self._now = asyncio.get_running_loop().time
        self._at_s = self._now() + left_s
        self._giving_up = asyncio.timeout_at(self._at_s + _GRACE_S)
        self._is_whole_answer = self._is_answered = self._was_ended = False

    @property
    def _is_late(self) -> bool:
        """A timer may fire a little before the clock says so; who was told to end is late."""
        return (self._was_ended or self._now() >= self._at_s) and not self._is_whole_answer

    async def run(self, app: ASGIApp, scope: Scope, expire: Callable[[], RequestError]) -> None:
        """Raises what `expire` makes where the deadline has passed before the answer was whole."""
        try:
            async with self._giving_up:
                await app(unconnected(scope), self.receive, self.send)
        except Exception:
            if not self._is_late:
                raise
        if self._is_late and not self._is_answered:
            raise expire()

    async def receive(self) -> Message:
        try:
            async with asyncio.timeout_at(self._at_s):
                return await self._receive()
        except TimeoutError:
            self._was_ended = True
            return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self._is_late:
            return
        if message["type"] == "http.response.start" and not is_event_stream(message):
            self._is_whole_answer = True
            self._giving_up.reschedule(None)
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            self._is_answered = True
        await self._send(message)
