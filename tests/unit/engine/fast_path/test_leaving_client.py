"""Who cancels a request, and who hears of it."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from app.engine.fast_path.asgi import Message
from app.engine.fast_path.leaving_client import unless_client_leaves


class Client:
    def __init__(self) -> None:
        self.left = asyncio.Event()

    async def receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}


async def never() -> str:
    await asyncio.Event().wait()
    return "answer"


async def error_instead() -> str:
    """As vLLM's handlers, which answer that they were cancelled."""
    with contextlib.suppress(asyncio.CancelledError):
        return await never()
    return "cancelled"


@pytest.mark.parametrize("answering", [never, error_instead])
def test_a_client_that_leaves_gets_nothing_and_is_no_cancellation(
    answering: Callable[[], Awaitable[str]],
) -> None:
    async def use() -> None:
        client = Client()
        task = asyncio.create_task(unless_client_leaves(answering(), client.receive))
        await asyncio.sleep(0)
        client.left.set()
        assert await task is None
        assert not task.cancelling()

    asyncio.run(use())


@pytest.mark.parametrize("answering", [never, error_instead])
@pytest.mark.parametrize("client_leaves", [False, True])
def test_whoever_else_cancels_is_heard_although_the_client_leaves_too(
    answering: Callable[[], Awaitable[str]], *, client_leaves: bool
) -> None:
    async def use() -> None:
        client = Client()
        task = asyncio.create_task(unless_client_leaves(answering(), client.receive))
        await asyncio.sleep(0.01)
        if client_leaves:
            client.left.set()
            await asyncio.sleep(0)  # its watch is told
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(use())


def test_an_answer_is_handed_on() -> None:
    async def answer() -> str:
        return "answer"

    async def use() -> None:
        assert await unless_client_leaves(answer(), Client().receive) == "answer"

    asyncio.run(use())
