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
    """Wraps `send`: a comment is written whenever nothing was sent for the interval.

    A timer only looks at times that are noted, here and on the clock of those who write past us, so
    an event costs no timer of its own; a task is only made for a comment.
    """

    def __init__(self, send: Send, interval_s: float, clock: StreamClock) -> None:
        self._send, self._interval_s, self._clock = send, interval_s, clock
        self._timer: asyncio.TimerHandle | None = None
        self._commenting: asyncio.Task[None] | None = None
        self._last = 0.0

    async def send(self, message: Message) -> None:
        self._last = perf_counter()
        if message["type"] == "http.response.start":
            await self._send(message)
            if is_event_stream(message):
                self._look_in(self._interval_s)
            return
        if not message.get("more_body", False):
            self.stop()
        await self._send(message)

    def _look_in(self, delay_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._look)

    def _look(self) -> None:
        quiet = perf_counter() - max(self._last, self._clock.last_event_s)
        if quiet < self._interval_s:
            self._look_in(self._interval_s - quiet)
        else:
            self._commenting = asyncio.create_task(self._comment())

    async def _comment(self) -> None:
        await self._send({"type": "http.response.body", "body": COMMENT, "more_body": True})
        self._last = perf_counter()
        self._look_in(self._interval_s)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._commenting is not None:
            self._commenting.cancel()
