"""What a connection may do before there is a request: how long its head may take and how large it
may be, and how many connections there may be at once. uvicorn bounds none of it.
"""

import asyncio
import functools
import resource
import urllib.parse
from collections import deque
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.core.envelopes import Family, render
from app.core.errors import RequestError
from app.core.raw_response import EXTENSION
from app.http_exchange import Exchange, Flow

_OTHER_FILES = 1024
# Requests of a connection with which it is still read, so that a client that leaves is noticed.
_MAX_AHEAD = 8
# Requests that may wait for their turn behind one: a read of 256 KiB can hold 14,000, 2.6 KB each.
_MAX_QUEUED = 256
# The line before a chunk, for the sizes of most: formatting one costs as much as all that is
# around it.
_NUM_SIZE_LINES = 1024
_SIZE_LINES = [b"%x\r\n" % size for size in range(_NUM_SIZE_LINES)]
_CODES = {
    400: ("invalid_http", "This is not HTTP/1.1 as the service reads it."),
    408: ("header_timeout", "The head of the request was not there in time."),
    431: ("headers_too_large", "The head of the request is too large."),
    503: ("too_many_connections", "There are too many connections."),
}


@dataclass(frozen=True)
class EdgeLimits:
    """`header_timeout_s`: from the connection, or from the first byte of a later request, to the
    end of the head. `max_header_bytes`: of the path and all headers together. `send_timeout_s`: a
    client that takes nothing of what waits to be sent for so long is given up: what it was to get
    would hold its place in the engine's queue."""

    header_timeout_s: float
    max_header_bytes: int
    max_headers: int
    max_connections: int
    send_timeout_s: float

    def protocol(self) -> Any:
        """A protocol class for uvicorn that keeps these limits."""
        return functools.partial(BoundedProtocol, self)


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol; what is over a limit is answered in the envelope and closed."""

    def __init__(self, limits: EdgeLimits, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.limits = limits
        self.refusal = HTTPStatus.BAD_REQUEST
        self.url = b""
        self.is_in_head = True
        self.has_begun_head = False  # and not ended it
        self.is_upgrade = False  # of the head that was read last
        self.is_deaf = False  # nothing more is taken from this connection
        self.num_heads = self.num_fed = self.num_parsed = self.num_headers = 0
        self.head_timer: asyncio.TimerHandle | None = None
        self.send_timer: asyncio.TimerHandle | None = None
        self.idle_timer: asyncio.TimerHandle | None = None
        self.idle_since_s: float | None = None  # None: a request is under way
        self.cycles: deque[Exchange] = deque()  # not answered yet, and the last
        self.raw: ChunkedResponse | None = None  # of the request that is being answered

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.flow: Flow = Flow(transport)
        self.start_timer()
        if len(self.connections) > self.limits.max_connections:
            self.refuse(HTTPStatus.SERVICE_UNAVAILABLE)

    def connection_lost(self, exc: Exception | None) -> None:
        self.stop_timer()
        self.stop_send_timer()
        if self.idle_timer is not None:
            self.idle_timer.cancel()
        self.end_raw()
        super().connection_lost(exc)
        self.tell_all_cycles()
        if self.scope is not None:
            scope: Any = self.scope
            scope["extensions"] = {}  # it led back here: so much would be left to the collector

    def tell_all_cycles(self) -> None:
        """uvicorn tells the last request that its client is gone, not one that runs before it."""
        cycles, self.cycles = self.cycles, deque()
        for cycle in cycles:
            cycle.leave()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing() or self.is_deaf:
            return
        was_in_head, num_heads = self.is_in_head, self.num_heads
        self.feed(data)
        if self.transport.is_closing():
            return
        if self.has_begun_head:
            self.start_timer()
        if not was_in_head or num_heads != self.num_heads:
            return
        # All of it was part of one head, or of what may stand before one. The parser shows a header
        # only when it has the whole of it, so these bytes are counted too.
        self.start_timer()
        self.num_fed += len(data)
        if self.num_fed > self.limits.max_header_bytes:
            self.refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def feed(self, data: bytes) -> None:
        """An `Upgrade` is not followed, as RFC 9110 allows. The parser ends a message behind such a
        head, and would read its body as the next request: it is given the head again without."""
        rest = memoryview(data)
        try:
            while rest:
                rest = self.feed_to_upgrade(rest)
        except httptools.HttpParserError:
            self.refuse(self.refusal)

    def feed_to_upgrade(self, data: memoryview) -> memoryview:
        """Returns what is left to be read."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stopped:
            if self.is_upgrade:
                self.parser.feed_data(self.head_without_upgrade())
                return data[stopped.args[0] :]
        return memoryview(b"")

    def head_without_upgrade(self) -> bytes:
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def on_message_begin(self) -> None:
        super().on_message_begin()
        scope: Any = self.scope
        scope["extensions"] = {EXTENSION: self.raw_response}
        self.has_begun_head = True
        self.idle_since_s = None  # not for the rest of a body that nobody waited for

    def raw_response(self, scope: Any) -> "ChunkedResponse | None":
        """The response to the request of `scope`; None too where another is parsed behind it."""
        cycle = self.cycle
        if cycle is None or cycle.scope.get("extensions") is not scope["extensions"]:
            return None
        if not cycle.response_started or not cycle.chunked_encoding or cycle.response_complete:
            return None
        if self.raw is None and not cycle.disconnected:
            self.raw = ChunkedResponse(self.transport, self.flow.write_paused)
        return self.raw

    def end_raw(self) -> None:
        """Nothing more is written past ASGI."""
        if self.raw is not None:
            self.raw.end()
            self.raw = None

    def on_response_complete(self) -> None:
        """As uvicorn's, but for the timer: a busy connection keeps the one that it has."""
        self.end_raw()
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            self.start_send_timer()
            return
        if self.pipeline:
            begun: Any = self.pipeline.pop()
            self.flow.num_waiting_bytes -= begun[0].num_waiting_bytes
            self.flow.resume_reading()
            self._start_asgi_task(*begun)
            return
        self.flow.resume_reading()
        self.idle_since_s = self.loop.time()
        if self.idle_timer is None:
            self.idle_timer = self.loop.call_later(self.timeout_keep_alive, self.close_when_idle)

    def close_when_idle(self) -> None:
        self.idle_timer = None
        if self.idle_since_s is None:
            return
        left_s = self.idle_since_s + self.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self.idle_timer = self.loop.call_later(left_s, self.close_when_idle)
        else:
            self.close()

    def close(self) -> None:
        """When the client has taken what there is for it, as soon as it has to take an answer: a
        transport that is closing waits for that for ever."""
        self.transport.close()
        self.start_send_timer()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self.count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.is_in_head:  # else a trailer: it counts, and nobody may take it for a header
            super().on_header(name, value)
        if name.lower() == b"transfer-encoding" and value.strip().lower() != b"chunked":
            raise ValueError("a body in an encoding that nobody undoes")
        self.num_headers += 1
        self.count(len(name) + len(value))

    def count(self, num_bytes: int) -> None:
        """Raises ValueError over a limit, which ends the parser: `feed` answers."""
        self.num_parsed += num_bytes
        limits = self.limits
        if self.num_parsed > limits.max_header_bytes or self.num_headers > limits.max_headers:
            self.refusal = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            raise ValueError("the head is too large")

    def on_headers_complete(self) -> None:
        method = self.parser.get_method()
        self.is_upgrade = self.parser.should_upgrade() and method != b"CONNECT"
        if self.is_upgrade:
            return
        if len(self.pipeline) >= _MAX_QUEUED:
            raise ValueError("too many requests wait behind one")
        self.stop_timer()
        self.is_in_head = self.has_begun_head = False
        self.idle_since_s = None  # it may have begun before the last answer ended
        self.num_heads += 1
        while self.cycles and self.cycles[0].response_complete:  # answered in this order
            self.cycles.popleft()
        self.cycles.append(self.begin_exchange(method.decode("ascii")))
        if self.pipeline and len(self.cycles) <= _MAX_AHEAD:
            self.flow.resume_reading()

    def begin_exchange(self, method: str) -> Exchange:
        """As uvicorn's `on_headers_complete` does, without what is not configured here."""
        parser, scope, before = self.parser, self.scope, self.cycle
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        scope["method"], scope["http_version"] = method, parser.get_http_version()
        scope["path"] = urllib.parse.unquote(path) if "%" in path else path
        scope["raw_path"], scope["query_string"] = url.path, url.query or b""
        self.cycle = exchange = Exchange(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=scope["http_version"] != "1.0" and parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        exchange.join_scope()
        if before is None or before.response_complete:
            self._start_asgi_task(exchange, self.app)
        else:  # its turn comes when the requests before it are answered
            self.flow.pause_reading()
            self.pipeline.appendleft((exchange, self.app))
        return exchange

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        if self.pipeline:
            self.note_waiting(len(body))

    def note_waiting(self, num_bytes: int) -> None:
        """More has come of the last request, while there is one whose turn has not."""
        self.cycles[-1].num_waiting_bytes += num_bytes
        self.flow.note_waiting(num_bytes)

    def on_message_complete(self) -> None:
        if not self.is_upgrade:
            super().on_message_complete()
            if self.pipeline:
                self.note_waiting(self.num_parsed)
        self.is_in_head = True
        self.num_fed = self.num_parsed = self.num_headers = 0

    def start_timer(self) -> None:
        """One runs at most: from the first byte, however many follow."""
        if self.head_timer is None:
            delay = self.limits.header_timeout_s
            self.head_timer = self.loop.call_later(delay, self.refuse, HTTPStatus.REQUEST_TIMEOUT)

    def stop_timer(self) -> None:
        if self.head_timer is not None:
            self.head_timer.cancel()
            self.head_timer = None

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.raw is not None:
            self.raw.is_blocked = True
        self.start_send_timer()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.raw is not None:
            self.raw.is_blocked = False
        self.stop_send_timer()
        if self.transport.is_closing():  # there is more to take
            self.start_send_timer()

    def start_send_timer(self) -> None:
        self.stop_send_timer()
        if self.transport.get_write_buffer_size():
            delay = self.limits.send_timeout_s
            self.send_timer = self.loop.call_later(delay, self.transport.abort)

    def stop_send_timer(self) -> None:
        if self.send_timer is not None:
            self.send_timer.cancel()
            self.send_timer = None

    def refuse(self, status: HTTPStatus) -> None:
        """Answer and close. A client that sent nothing, or that another answer is on its way to,
        would take this one for the answer to something else: its connection is only closed, after
        that answer where its request was whole."""
        cycle = self.cycle
        is_answering = cycle is not None and not cycle.response_complete
        if is_answering and not cycle.more_body:
            cycle.keep_alive = False
            self.is_deaf = True
            return
        is_silent = status is HTTPStatus.REQUEST_TIMEOUT and not self.num_fed
        is_answered = is_answering and (cycle.response_started or self.pipeline)
        if not is_silent and not is_answered and not self.transport.is_closing():
            self.transport.write(answer(status, self.url))
        self.close()


class ChunkedResponse:
    """A RawResponse: what uvicorn's `send` does with a part of a body, without its coroutine. It is
    told what happens to its connection, as asking for it takes longer than the rest."""

    __slots__ = ("_transport", "is_blocked")

    def __init__(self, transport: asyncio.Transport, is_blocked: bool) -> None:
        self._transport: asyncio.Transport | None = transport
        self.is_blocked = is_blocked

    def write(self, body: bytes) -> None:
        if body and self._transport is not None:  # an empty one would end the response
            size = len(body)
            line = _SIZE_LINES[size] if size < _NUM_SIZE_LINES else b"%x\r\n" % size
            self._transport.write(b"".join((line, body, b"\r\n")))

    def end(self) -> None:
        """The response is complete, or its client gone."""
        self._transport = None
        self.is_blocked = False


def answer(status: HTTPStatus, path: bytes) -> bytes:
    code, sentence = _CODES[status]
    family = Family.ANTHROPIC if path.startswith(b"/v1/messages") else Family.OPENAI
    body = render(family, RequestError(sentence, status=status, code=code))
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        "connection: close",
    ]
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        lines.append("retry-after: 5")
    return "\r\n".join([*lines, "", ""]).encode() + body


def allow_connections(most: int) -> None:
    """Let the process have the descriptors that so many connections need, where the system does."""
    needed = most + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        least = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (least, hard))
