"""Clients that take their answers slowly, or never, on real sockets."""

import asyncio
import socket
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.test_http_edge import GOOD, LIMITS, with_listener


class Endless:
    """An answer that does not end, and whether it was given up."""

    def __init__(self) -> None:
        self.was_given_up = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        leaving = asyncio.create_task(receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not leaving.done():
            await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
            await asyncio.sleep(0)
        self.was_given_up.set()


def connect(port: int) -> socket.socket:
    reader = socket.create_connection(("127.0.0.1", port))
    reader.setblocking(False)
    reader.sendall(GOOD)
    return reader


def test_a_client_that_reads_nothing_of_its_answer_is_given_up() -> None:
    app = Endless()

    async def never_read(port: int) -> None:
        with connect(port):
            await app.was_given_up.wait()

    with_listener(never_read, app)


async def answer_at_length(scope: Any, receive: Any, send: Any) -> None:
    """More than the system takes of it here, and less than the server waits with."""
    headers = [(b"content-length", b"50000")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"x" * 50_000})


async def is_served(port: int) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GOOD)
    status = await reader.read(12)
    writer.close()
    return status == b"HTTP/1.1 200"


@pytest.mark.parametrize(
    "request_head",
    [GOOD, b"GET /x HTTP/1.1\r\nconnection: close\r\n\r\n", GOOD + b"nonsense\r\n\r\n"],
    ids=["idle", "closed", "refused"],
)
def test_a_client_that_takes_no_last_word_keeps_no_connection(request_head: bytes) -> None:
    async def never_read(port: int) -> None:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            client.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, ("127.0.0.1", port))
            await loop.sock_sendall(client, request_head)
            while not await is_served(port):  # noqa: ASYNC110 (503 while there is another)
                await asyncio.sleep(0.05)

    limits = replace(LIMITS, max_connections=1, send_timeout_s=0.3)
    options = {"timeout_keep_alive": 1, "send_bytes": 4096}
    with_listener(never_read, answer_at_length, limits, **options)


def test_a_client_that_reads_slowly_is_not_given_up() -> None:
    app = Endless()

    async def read_slowly(port: int) -> None:
        loop = asyncio.get_running_loop()
        with connect(port) as reader:
            for _ in range(15):  # longer than one may be silent
                await loop.sock_recv(reader, 1 << 24)
                await asyncio.sleep(0.2)
            assert not app.was_given_up.is_set()

    with_listener(read_slowly, app)
