"""Who cancels a request, and who hears of it."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from app.engine.fast_path.asgi import Message
from app.engine.fast_path.leaving_client import unless_client_leaves


class Client:
    """Tells of its leaving by a message, or past ASGI."""

    def __init__(self, *, tells: bool) -> None:
        self.left = asyncio.Event()
        self.tell: Callable[[], None] | None = None
        self.connection = self if tells else None

    @property
    def has_sent_all(self) -> bool:
        return True

    def when_left(self, tell: Callable[[], None] | None) -> None:
        self.tell = tell

    async def receive(self) -> Message:
        assert self.connection is None
        await self.left.wait()
        return {"type": "http.disconnect"}

    def leave(self) -> None:
        self.left.set()
        if self.tell:
            self.tell()

    def cancels(self, answering: Awaitable[str]) -> "asyncio.Task[str | None]":
        waiting = unless_client_leaves(answering, self.receive, self.connection)
        return asyncio.create_task(waiting)


async def never() -> str:
    await asyncio.Event().wait()
    return "answer"


async def error_instead() -> str:
    """As vLLM's handlers, which answer that they were cancelled."""
    with contextlib.suppress(asyncio.CancelledError):
        return await never()
    return "cancelled"


@pytest.mark.parametrize("tells", [False, True])
@pytest.mark.parametrize("answering", [never, error_instead])
def test_a_client_that_leaves_gets_nothing_and_is_no_cancellation(
    answering: Callable[[], Awaitable[str]], *, tells: bool
) -> None:
    async def use() -> None:
        client = Client(tells=tells)
        task = client.cancels(answering())
        await asyncio.sleep(0)
        client.leave()
        assert await task is None
        assert not task.cancelling()

    asyncio.run(use())


@pytest.mark.parametrize("answering", [never, error_instead])
@pytest.mark.parametrize("client_leaves", [False, True])
@pytest.mark.parametrize("tells", [False, True])
def test_whoever_else_cancels_is_heard_although_the_client_leaves_too(
    answering: Callable[[], Awaitable[str]], *, tells: bool, client_leaves: bool
) -> None:
    async def use() -> None:
        client = Client(tells=tells)
        task = client.cancels(answering())
        await asyncio.sleep(0.01)
        if client_leaves:
            client.leave()
            if not tells:
                await asyncio.sleep(0)  # its watch is told
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(use())


@pytest.mark.parametrize("tells", [False, True])
def test_an_answer_is_handed_on_and_nobody_waits_for_the_client_any_more(*, tells: bool) -> None:
    async def answer() -> str:
        return "answer"

    async def use() -> None:
        client = Client(tells=tells)
        task = client.cancels(answer())
        assert await task == "answer"
        assert client.tell is None
        assert not asyncio.all_tasks() - {asyncio.current_task()} or not tells

    asyncio.run(use())
