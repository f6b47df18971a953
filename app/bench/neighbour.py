"""A stream that somebody reads while others send what may hold it up: the gaps in it."""

import asyncio
import contextlib
import itertools
import json
import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from app.bench.connection import Client, ReplyError
from app.bench.statistics import quantile

TIMEOUT_S = 120
_START = 2  # chunks before the stream is under way
Disturb = Callable[[], Awaitable[None]]


class NeighbourError(Exception):
    """The stream itself was refused or cut."""


@dataclass(frozen=True)
class Gaps:
    """Seconds between the chunks of one stream. `num_disturbances` were sent meanwhile."""

    seconds: Sequence[float]
    num_disturbances: int = 0

    @property
    def p99(self) -> float:
        return quantile(sorted(self.seconds), 0.99)

    @property
    def worst(self) -> float:
        return max(self.seconds)


@dataclass(frozen=True)
class Neighbour:
    """Streams `num_tokens` tokens over `client` from a model by that name."""

    client: Client
    model: str
    num_tokens: int

    async def read(self, disturb: Disturb | None = None, num_at_once: int = 1) -> Gaps:
        """The gaps of one stream, while `num_at_once` tasks call `disturb` again and again.

        Raises NeighbourError where the stream fails.
        """
        count = itertools.count()
        tasks = [
            asyncio.create_task(again_and_again(disturb, count))
            for _ in range(num_at_once)
            if disturb
        ]
        try:
            reply = await self.client.exchange(self.client.request(self.body()), TIMEOUT_S)
        except ReplyError as error:
            raise NeighbourError(str(error)) from error
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if reply.status != 200 or len(reply.times) < _START + 2:
            raise NeighbourError(f"status {reply.status}")
        times = reply.times[_START:]
        return Gaps([b - a for a, b in itertools.pairwise(times)], next(count))

    def body(self) -> bytes:
        return json.dumps(
            {
                "model": self.model,
                "messages": [{"role": "user", "content": "What is 37 + 5?"}],
                "max_tokens": self.num_tokens,
                "ignore_eos": True,
                "skip_special_tokens": False,  # so that each token has a text, and a chunk
                "stream": True,
            }
        ).encode()


async def again_and_again(disturb: Disturb, count: "itertools.count[int]") -> None:
    """Until it is cancelled. An answer that breaks off is what some of it is made for."""
    while True:
        with contextlib.suppress(ReplyError):
            await disturb()
        next(count)
        await asyncio.sleep(0)


def medians(runs: Sequence[Gaps]) -> tuple[float, float]:
    """Of p99 and of the worst gap."""
    p99 = statistics.median(run.p99 for run in runs)
    return p99, statistics.median(run.worst for run in runs)
