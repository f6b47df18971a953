"""The gateway as shipped, on a port, in front of a recorded engine."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any

from fastapi import APIRouter
from prometheus_client import CollectorRegistry

from app.api.application import create_app, join_engine
from app.api.metrics import Metrics
from app.api.resources import Resources
from app.core.keys import KeyRing, digest_of, make_key
from app.core.request_rules import RequestRules
from app.core.state import Phase, ServiceState
from app.core.usage import UsageRecord
from app.engine.fast_path.direct_streams import DirectStreams
from app.engine.fast_path.fast_route import FastRoute
from app.http_edge import EdgeLimits
from app.server import Listener, bind
from tests.unit.engine.fast_path.fast_client import CHAT_BODY, COMPLETION_BODY, Case, refuse_stock
from tests.unit.engine.fast_path.recorded_engine import TURNS, Piece, RecordedEngine
from tests.unit.limits import DEFAULT_LIMITS

SECRET = "sk-unit"
PATHS = {"/v1/chat/completions": CHAT_BODY, "/v1/completions": COMPLETION_BODY}


@dataclass
class Served:
    """`usage` gets the record of each request."""

    engine: RecordedEngine
    resources: Resources
    streams: DirectStreams
    listener: Listener
    port: int
    usage: list[UsageRecord] = field(default_factory=list)

    async def next_request(self, but: Sequence[str] = ()) -> str:
        """The name of a request that the engine has, other than those in `but`."""
        while True:
            for name in self.engine.output_processor.external_req_ids:
                if name not in but:
                    return str(name)
            await asyncio.sleep(0.001)

    async def say(self, name: str, *pieces: Piece, turns: int = TURNS, pause_s: float = 0) -> float:
        """Returns the longest time between two pieces."""
        longest_s, last_s = 0.0, perf_counter()
        for piece in pieces:
            await self.engine.step({name: piece}, turns)
            await asyncio.sleep(pause_s)
            longest_s, last_s = max(longest_s, perf_counter() - last_s), perf_counter()
        return longest_s


def make_resources(usage: list[UsageRecord]) -> Resources:
    state = ServiceState()
    state.enter(Phase.LOADING)
    state.enter(Phase.READY)
    keys = KeyRing([make_key("unit", digest_of(SECRET), ["infer"])])
    resources = Resources(state, keys, Metrics(CollectorRegistry()), "0", "m")
    resources.keep_usage = usage.append
    return resources


@asynccontextmanager
async def served(
    keep_alive_s: float = 0,
    certificate: tuple[str, str] | None = None,
    send_timeout_s: float = 30,
) -> AsyncIterator[Served]:
    engine, usage = RecordedEngine(), list[UsageRecord]()
    resources = make_resources(usage)
    app = create_app(
        resources,
        rules=RequestRules(DEFAULT_LIMITS),
        max_body_bytes=65_536,
        body_timeout_s=5,
        sse_keep_alive_s=keep_alive_s,
    )
    streams = DirectStreams(engine)
    join_engine(app, [router()], {path: partial(fast, engine, streams, path) for path in PATHS})
    tls = {"ssl_certfile": certificate[0], "ssl_keyfile": certificate[1]} if certificate else {}
    sock = bind("127.0.0.1", 0, "a port")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # a client that does not read shows
    limits = EdgeLimits(10, 32_768, 100, max_connections=1024, send_timeout_s=send_timeout_s)
    listener = Listener(app, sock, limits, **tls)
    serving = asyncio.create_task(listener.run_until_stopped())
    try:
        yield Served(engine, resources, streams, listener, sock.getsockname()[1], usage)
    finally:
        listener.stop()
        await serving


def router() -> APIRouter:
    router = APIRouter()
    for path in PATHS:
        router.add_api_route(path, refuse_stock, methods=["POST"])
    return router


def fast(engine: RecordedEngine, streams: DirectStreams, path: str, _: Any) -> FastRoute:
    api = Case(dict(PATHS[path]), []).api(engine)
    return FastRoute(api, streams, refuse_stock)


@dataclass
class Connection:
    """A client's: raw bytes, so that a mistake of framing shows."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def ask(self, path: str = "/v1/chat/completions", **more: Any) -> None:
        body = json.dumps(PATHS[path] | more).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {SECRET}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self.writer.write(head.encode() + body)

    async def head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def chunk(self) -> bytes:
        """The next chunk of the body; empty at its end."""
        size = int(await self.reader.readline(), 16)
        body = await self.reader.readexactly(size + 2)
        assert body.endswith(b"\r\n")
        return body[:-2]

    async def chunk_with(self, content: bytes) -> None:
        """Reads until a chunk has `content`."""
        await self.head()
        while content not in await self.chunk():
            pass

    async def answer(self) -> bytes:
        """A whole answer, with its body's framing undone."""
        assert (await self.head()).startswith(b"HTTP/1.1 200 ")
        body = b""
        while chunk := await self.chunk():
            body += chunk
        return body


def with_served(use: Callable[[Served], Awaitable[None]], **options: Any) -> None:
    async def run() -> None:
        async with asyncio.timeout(60), served(**options) as gateway:
            await use(gateway)

    asyncio.run(run())


@asynccontextmanager
async def connected(port: int, trust: ssl.SSLContext | None = None) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=trust, server_hostname="localhost" if trust else None
    )
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()
