"""A client that leaves takes its request along."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from app.core.client_connection import ClientConnection
from app.engine.fast_path.asgi import Receive


async def unless_client_leaves(
    answering: Awaitable[Any], receive: Receive, client: ClientConnection | None
) -> Any:
    """What `answering` gives; None for a client that left meanwhile, whose request it cancels.

    vLLM's handlers make an error of being cancelled; whoever else cancels is not given that.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 (a coroutine runs in one)
    has_left = False

    def leave() -> None:
        nonlocal has_left
        has_left = True
        task.cancel()

    answer = None
    end_watch = watch(client, receive, leave)
    try:
        answer = await answering
    except asyncio.CancelledError:
        if not has_left:
            raise
    finally:
        end_watch()
    num_cancels = task.uncancel() if has_left else task.cancelling()
    if num_cancels:
        raise asyncio.CancelledError
    return None if has_left else answer


def watch(
    client: ClientConnection | None, receive: Receive, tell: Callable[[], None]
) -> Callable[[], object]:
    """Has `tell` called when the client leaves, until what it returns is called."""
    if client is None:
        return asyncio.create_task(until_left(receive, tell)).cancel
    client.when_left(tell)
    return partial(client.when_left, None)


async def until_left(receive: Receive, tell: Callable[[], None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    tell()
