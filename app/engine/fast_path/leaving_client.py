"""A client that leaves takes its request along."""

import asyncio
from collections.abc import Awaitable
from typing import Any

from app.engine.fast_path.asgi import Receive


async def unless_client_leaves(answering: Awaitable[Any], receive: Receive) -> Any:
    """What `answering` gives; None for a client that left meanwhile, whose request it cancels.

    vLLM's handlers make an error of being cancelled; whoever else cancels is not given that.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 (a coroutine runs in one)
    has_left = False

    async def watch() -> None:
        nonlocal has_left
        while (await receive())["type"] != "http.disconnect":
            pass
        has_left = True
        task.cancel()

    answer = None
    watching = asyncio.create_task(watch())
    try:
        answer = await answering
    except asyncio.CancelledError:
        if not has_left:
            raise
    finally:
        watching.cancel()
    num_cancels = task.uncancel() if has_left else task.cancelling()
    if num_cancels:
        raise asyncio.CancelledError
    return None if has_left else answer
