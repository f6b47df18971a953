"""Comment lines on a stream that waits, so that no proxy between us and the client gives it up."""

import asyncio
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.context import context_of, is_event_stream
from app.core.meter import StreamClock

COMMENT = b": keep-alive\n\n"


class SseKeepAlive:
    """`interval_s` 0: never."""

    def __init__(self, app: ASGIApp, interval_s: float) -> None:
        self.app, self.interval_s = app, interval_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or not self.interval_s:
            return await self.app(scope, receive, send)
        stream = QuietStream(send, self.interval_s, context_of(scope).meter.clock)
        try:
            await self.app(scope, receive, stream.send)
        finally:
            stream.stop()
        return None


class QuietStream:
    """Wraps `send`: a task writes a comment whenever nothing was sent for the interval.

    The task only looks at times that are noted, here and on the clock of those who write past us,
    so an event costs no timer of its own.
    """

    def __init__(self, send: Send, interval_s: float, clock: StreamClock) -> None:
        self._send, self._interval_s, self._clock = send, interval_s, clock
        self._task: asyncio.Task[None] | None = None
        self._last = 0.0

    async def send(self, message: Message) -> None:
        self._last = perf_counter()
        if message["type"] == "http.response.start":
            await self._send(message)
            if is_event_stream(message):
                self._task = asyncio.create_task(self._comment())
            return
        if not message.get("more_body", False):
            self.stop()
        await self._send(message)

    async def _comment(self) -> None:
        while True:
            quiet = perf_counter() - max(self._last, self._clock.last_event_s)
            if quiet >= self._interval_s:
                await self._send({"type": "http.response.body", "body": COMMENT, "more_body": True})
                self._last, quiet = perf_counter(), 0.0
            await asyncio.sleep(self._interval_s - quiet)

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None
