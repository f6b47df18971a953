"""What waits on a connection behind the request that runs, on real sockets."""

import asyncio
import contextlib
from typing import Any

import pytest

from app.core.client_connection import connection_of
from tests.unit.test_http_edge import GOOD, echo, with_listener

NUM_QUICK = 100
SIZE = 20_000_000
# What a read brings may be over the limit: 64 KiB for those that wait, and for the one that runs.
MOST = 2 * (65_536 + 262_144)
GREEDY = {
    "a body": b"POST /held HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % SIZE + b"x" * SIZE,
    "bodies": (b"POST /held HTTP/1.1\r\ncontent-length: 60000\r\n\r\n" + b"x" * 60_000) * 300,
    "heads": (b"GET /held HTTP/1.1\r\na: " + b"x" * 1900 + b"\r\n\r\n") * 1000,
}


def num_held(connection: Any) -> int:
    """Bytes of what has come and is not answered."""
    waiting = [exchange for exchange, _ in connection.transport.get_protocol().pipeline]
    headers = [pair for each in waiting for pair in each.scope["headers"]]
    bodies = sum(len(each.body) for each in (connection, *waiting))
    return bodies + sum(len(name) + len(value) for name, value in headers)


@pytest.mark.parametrize("greedy", GREEDY.values(), ids=GREEDY)
def test_what_waits_takes_little_room_however_many_are_answered_before_it(greedy: bytes) -> None:
    """Each answer would let in another read of up to 256 KiB."""

    async def measure(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/held" and held.empty():
            held.put_nowait(num_held(connection_of(scope)))
        await echo(scope, receive, send)

    async def ask(port: int) -> int:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GOOD * NUM_QUICK + greedy)
        num_bytes = await held.get()
        writer.transport.abort()
        return num_bytes

    held = asyncio.Queue[int]()
    assert with_listener(ask, measure) < MOST


def test_requests_with_long_bodies_are_all_answered_in_their_order() -> None:
    sizes = [(number * 37_123) % 200_000 for number in range(60)]

    async def ask(port: int) -> list[int]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for size in sizes:
            writer.write(b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size)
        found = []
        for _ in sizes:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            found.append(int(await reader.readexactly(length)))
        with contextlib.suppress(ConnectionError):
            writer.close()
        return found

    assert with_listener(ask) == sizes
