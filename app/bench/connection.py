"""An HTTP/1.1 connection that costs the generator little per streamed chunk.

httpx costs about five times as much, 100 us (docs/performance.md): more than the server that is to
be measured, and on the same CPUs.
"""

import asyncio
import ssl
import time
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import httptools

from app.bench.target import Target


@dataclass
class Reply:
    """`times` has the monotonic second at which each piece of the body came."""

    status: int = 0
    pieces: list[bytes] = field(default_factory=list)
    times: list[float] = field(default_factory=list)


class ReplyError(Exception):
    """No whole reply; the text is a short kind."""


class Connection(asyncio.Protocol):
    """Carries one exchange at a time."""

    def __init__(self) -> None:
        self.is_open = False
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Reply] | None = None
        self._reply = Reply()
        self._now = 0.0

    async def exchange(self, request: bytes) -> Reply:
        if self._transport is None or self._transport.is_closing():
            raise ReplyError("connection lost")
        self._reply = Reply()
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            return await self._waiting
        except asyncio.CancelledError:
            self.close()
            raise

    def close(self) -> None:
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        self._now = time.monotonic()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail("bad response")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._fail("connection lost")

    def on_body(self, body: bytes) -> None:
        self._reply.pieces.append(body)
        self._reply.times.append(self._now)

    def on_message_complete(self) -> None:
        self._reply.status = self._parser.get_status_code()
        self.is_open = self._parser.should_keep_alive()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(self._reply)

    def _fail(self, kind: str) -> None:
        self.close()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ReplyError(kind))


class Client:
    """Connections to one target, opened as needed and kept while both sides agree."""

    def __init__(self, target: Target) -> None:
        parts = urlsplit(target.url)
        self._host = parts.hostname or "127.0.0.1"
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._idle: list[Connection] = []
        headers = {"Host": parts.netloc, "Content-Type": "application/json", **target.headers}
        lines = [f"POST {parts.path}/v1/chat/completions HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._head = "\r\n".join(lines).encode()

    def request(self, body: bytes) -> bytes:
        return b"%s\r\nContent-Length: %d\r\n\r\n%s" % (self._head, len(body), body)

    async def exchange(self, request: bytes, timeout_s: float) -> Reply:
        """Raises ReplyError."""
        try:
            async with asyncio.timeout(timeout_s):
                connection = await self._connection()
                reply = await connection.exchange(request)
        except TimeoutError as error:
            raise ReplyError("timeout") from error
        except OSError as error:
            raise ReplyError("no connection") from error
        if connection.is_open:
            self._idle.append(connection)
        return reply

    def close(self) -> None:
        for connection in self._idle:
            connection.close()

    async def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            Connection, self._host, self._port, ssl=self._tls
        )
        return connection
