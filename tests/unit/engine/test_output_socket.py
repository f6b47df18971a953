import asyncio
from pathlib import Path
from typing import Any

import pytest
import zmq
import zmq.asyncio

from app.engine.output_socket import OutputSocket


@pytest.fixture
def pair(tmp_path: Path) -> Any:
    """Where messages are pushed, and the asyncio socket that they come out of."""
    context = zmq.Context()
    push, pull = context.socket(zmq.PUSH), zmq.asyncio.Context(context).socket(zmq.PULL)
    pull.bind(f"ipc://{tmp_path}/socket")
    push.connect(f"ipc://{tmp_path}/socket")
    yield push, pull
    for each in (push, pull):
        each.close(linger=0)
    context.term()


def test_every_message_arrives_in_order_whether_it_waits_or_is_waited_for(pair: Any) -> None:
    push, pull = pair

    async def receive() -> list[list[bytes]]:
        socket = OutputSocket(pull)
        found: list[list[bytes]] = []

        async def read() -> None:
            while len(found) < 300:
                frames = await socket.recv_multipart(copy=False)
                found.append([bytes(frame.buffer) for frame in frames])

        reading = asyncio.create_task(read())
        for number in range(300):
            push.send_multipart([b"%d" % number, b"x" * number * 100])
            if number % 7 == 0:
                await asyncio.sleep(0.001)
        await asyncio.wait_for(reading, 10)
        return found

    assert asyncio.run(receive()) == [[b"%d" % n, b"x" * n * 100] for n in range(300)]


def test_it_takes_over_from_zmqs_own_while_that_waits(pair: Any) -> None:
    push, pull = pair

    async def receive() -> list[bytes]:
        waiting = asyncio.ensure_future(pull.recv_multipart())
        await asyncio.sleep(0.05)
        socket = OutputSocket(pull)
        push.send_multipart([b"first"])
        found = list(await asyncio.wait_for(waiting, 5))
        for word in (b"second", b"third"):
            push.send_multipart([word])
            found += await asyncio.wait_for(socket.recv_multipart(), 5)
        return found

    assert asyncio.run(receive()) == [b"first", b"second", b"third"]


def test_a_task_that_waits_can_be_cancelled_and_the_socket_closed(pair: Any) -> None:
    _, pull = pair

    async def cancel() -> None:
        reading = asyncio.create_task(OutputSocket(pull).recv_multipart())
        await asyncio.sleep(0.02)
        pull.close(linger=0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await asyncio.sleep(0.02)

    asyncio.run(cancel())


@pytest.mark.parametrize(
    ("messages", "num_asked"),
    [
        ([0, 0, 0], 3),  # silent, but for what it answers
        ([1, 1, 1], 0),
        ([2, 0, 0, 1], 2),
    ],
)
def test_who_has_just_sent_something_is_not_asked(
    pair: Any, messages: list[int], num_asked: int
) -> None:
    """`messages`: how many come before each time that something is to be heard."""
    push, pull = pair
    asked = []

    async def listen() -> None:
        socket = OutputSocket(pull)

        async def ask() -> None:
            asked.append(True)
            push.send(b"an answer")
            await socket.recv_multipart()

        for num_new in messages:
            for _ in range(num_new):
                push.send(b"news")
                await socket.recv_multipart()
            await socket.hear(ask)

    asyncio.run(listen())
    assert len(asked) == num_asked
