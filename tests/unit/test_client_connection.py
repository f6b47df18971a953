"""What an application is told of its client past ASGI, on real connections."""

import asyncio
import gc
from typing import Any

import pytest

from app.core.client_connection import connection_of, unconnected
from tests.unit.test_http_edge import GOOD, with_listener

POST = b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\n"


class Watching:
    """Waits for its client to leave, or answers when it is told to."""

    def __init__(self) -> None:
        self.begun, self.answers = asyncio.Semaphore(0), asyncio.Event()
        self.num_told = 0
        self.told = asyncio.Event()
        self.had_all: list[bool] = []

    def tell(self) -> None:
        self.num_told += 1
        self.told.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        client = connection_of(scope)
        assert client is not None
        assert connection_of(unconnected(scope)) is None
        self.had_all.append(client.has_sent_all)
        while (await receive())["more_body"]:
            pass
        self.had_all.append(client.has_sent_all)
        client.when_left(self.tell)
        self.begun.release()
        leaving, answering = map(asyncio.create_task, (self.told.wait(), self.answers.wait()))
        await asyncio.wait({leaving, answering}, return_when=asyncio.FIRST_COMPLETED)
        if not self.told.is_set():
            headers = [(b"content-length", b"0")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize("num_requests", [1, 2])  # the second waits for its turn behind the first
def test_who_waits_is_told_once_that_its_client_left(num_requests: int) -> None:
    async def leave(port: int) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GOOD * num_requests)
        await app.begun.acquire()
        assert not app.num_told
        writer.close()
        await asyncio.wait_for(app.told.wait(), 10)

    app = Watching()
    with_listener(leave, app)
    assert app.num_told == 1


def test_who_has_been_answered_is_told_nothing() -> None:
    async def take_answer_and_leave(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GOOD)
        await app.begun.acquire()
        app.answers.set()
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await asyncio.sleep(0.05)

    app = Watching()
    with_listener(take_answer_and_leave, app)
    assert not app.num_told


def test_who_asks_after_the_client_left_is_told_all_the_same_but_not_if_it_is_done() -> None:
    told: list[str] = []

    async def ask_late(scope: Any, receive: Any, _: Any) -> None:
        client = connection_of(scope)
        await receive()
        while (await receive())["type"] != "http.disconnect":
            pass
        assert client is not None
        client.when_left(lambda: told.append("done"))
        client.when_left(None)
        client.when_left(lambda: told.append("waits"))
        assert not told  # the caller goes on first
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        finished.set()

    async def leave(port: int) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GOOD)
        await asyncio.sleep(0.05)
        writer.close()
        await asyncio.wait_for(finished.wait(), 10)

    finished = asyncio.Event()
    with_listener(leave, ask_late)
    assert told == ["waits"]


@pytest.mark.parametrize("is_slow", [False, True])
def test_a_body_that_came_with_its_head_is_known_to_be_there(*, is_slow: bool) -> None:
    async def ask(port: int) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST + b"1234"[: 2 if is_slow else 4])
        if is_slow:
            await asyncio.sleep(0.05)
            writer.write(b"34")
        await app.begun.acquire()
        writer.close()
        await asyncio.wait_for(app.told.wait(), 10)

    app = Watching()
    with_listener(ask, app)
    assert app.had_all == [not is_slow, True]


def test_a_client_that_leaves_after_a_long_body_is_noticed() -> None:
    """Its connection is not read while more of a body waits than 64 KiB."""
    size = 100_000

    async def ask(port: int) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(POST.replace(b"4", b"%d" % size) + b"x" * 1000)
        await asyncio.sleep(0.05)
        writer.write(b"x" * (size - 1000))
        await app.begun.acquire()
        writer.close()
        await asyncio.wait_for(app.told.wait(), 10)

    app = Watching()
    with_listener(ask, app)
    assert app.num_told == 1


def test_nothing_of_a_request_is_left_to_the_garbage_collector() -> None:
    async def ask_often(port: int) -> None:
        app.answers.set()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for round_ in range(20):
            if round_ == 10:
                gc.collect()
                gc.disable()
            writer.write(GOOD)
            await reader.readuntil(b"\r\n\r\n")
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        gc.set_debug(0)
        found.extend(type(each).__name__ for each in gc.garbage)
        gc.garbage.clear()
        writer.close()

    app, found = Watching(), list[str]()
    try:
        with_listener(ask_often, app)
    finally:
        gc.enable()
    assert "Exchange" not in found
