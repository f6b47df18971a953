"""A request and its response on a connection."""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    RequestResponseCycle,
)

from app.core.client_connection import CLIENT

Message = Any
_BODILESS = (204, 304)


class Flow(FlowControl):
    """uvicorn's, but for requests that wait for their turn on the connection: while they take more
    room than one that runs may, nothing more is read, whoever asks for it. Each answer before them
    would let in another piece of them.
    """

    num_waiting_bytes = 0

    def note_waiting(self, num_bytes: int) -> None:
        self.num_waiting_bytes += num_bytes
        if self.num_waiting_bytes > HIGH_WATER_LIMIT:
            self.pause_reading()

    def resume_reading(self) -> None:
        if self.num_waiting_bytes <= HIGH_WATER_LIMIT:
            super().resume_reading()


class Exchange(RequestResponseCycle):
    """uvicorn's, but for how it sends: the head waits for the first part of the body, as ASGI asks
    of a server, and both are one write, which is one system call. `response_started`: it is out.
    It is a ClientConnection.
    """

    head: Message | None = None  # what is to be written of it
    num_waiting_bytes = 0  # of head and body, that came before its turn
    _tell_left: Callable[[], None] | None = None

    @property
    def has_sent_all(self) -> bool:
        return not self.more_body

    def when_left(self, tell: Callable[[], None] | None) -> None:
        self._tell_left = tell
        if tell is None:
            return
        if self.disconnected:
            asyncio.get_running_loop().call_soon(self.tell_left)
        else:  # after a long body the connection is not read, and would not say that it ended
            self.flow.resume_reading()

    def leave(self) -> None:
        """The client is gone."""
        if not self.response_complete:
            self.disconnected = True
            self.message_event.set()
            self.tell_left()
        self.leave_scope()

    def join_scope(self) -> None:
        scope: Any = self.scope
        scope[CLIENT] = self

    def leave_scope(self) -> None:
        """At the end: a circle would be left to the garbage collector."""
        scope: Any = self.scope
        scope.pop(CLIENT, None)

    def tell_left(self) -> None:
        tell, self._tell_left = self._tell_left, None
        if tell is not None:
            tell()

    async def send(self, message: Message) -> None:
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        kind, is_begun = message["type"], self.response_started or self.head is not None
        if kind == "http.response.start" and not is_begun:
            self.head, self.waiting_for_100_continue = message, False
        elif kind == "http.response.body" and is_begun and not self.response_complete:
            self.write(message.get("body", b""), message.get("more_body", False))
        else:
            raise RuntimeError(f"{kind} is not what comes next in this response")

    async def send_500_response(self) -> None:
        self.head = self.chunked_encoding = None  # of what nobody has seen
        self.expected_content_length = 0
        await super().send_500_response()

    def write(self, body: bytes, has_more: bool) -> None:
        parts = [] if self.response_started else self.head_lines()
        if self.scope["method"] == "HEAD":
            self.expected_content_length = 0
        elif self.chunked_encoding:
            if body:
                parts += (b"%x\r\n" % len(body), body, b"\r\n")
            if not has_more:
                parts.append(b"0\r\n\r\n")
        else:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0:
                raise RuntimeError("the body is longer than its Content-Length")
            parts.append(body)
        self.head, self.response_started = None, True
        self.transport.write(b"".join(parts))
        if not has_more:
            self.finish()

    def finish(self) -> None:
        if self.expected_content_length:
            raise RuntimeError("the body is shorter than its Content-Length")
        self.response_complete = True
        self.leave_scope()
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()

    def head_lines(self) -> list[bytes]:
        """Of the response; says how the body will be told from what follows it."""
        assert self.head is not None  # noqa: S101 (`send` has seen to it)
        status, says_close = self.head["status"], False
        lines = [STATUS_LINE[status]]
        for name, value in (*self.default_headers, *self.head.get("headers", ())):
            if HEADER_RE.search(name) or HEADER_VALUE_RE.search(value):
                raise RuntimeError("a header has a character that is not allowed there")
            name = name.lower()
            if name == b"content-length" and self.chunked_encoding is None:
                self.expected_content_length, self.chunked_encoding = int(value), False
            elif name == b"transfer-encoding" and value.lower() == b"chunked":
                self.expected_content_length, self.chunked_encoding = 0, True
            elif name == b"connection" and b"close" in value.lower():
                self.keep_alive, says_close = False, True
            lines += (name, b": ", value, b"\r\n")
        if not self.keep_alive and not says_close:
            lines.append(b"connection: close\r\n")
        has_body = status not in _BODILESS and self.scope["method"] != "HEAD"
        if self.chunked_encoding is None and has_body:
            self.chunked_encoding = True
            lines.append(b"transfer-encoding: chunked\r\n")
        lines.append(b"\r\n")
        return lines
