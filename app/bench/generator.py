"""Sends a run's requests, and watches itself: a generator at its limit measures itself."""

import asyncio
import gc
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import uvloop

from app.bench.arrivals import Arrivals, ClosedLoop
from app.bench.connection import Client, ReplyError
from app.bench.outcome import Outcome
from app.bench.progress import Progress
from app.bench.reply import note_reply
from app.bench.statistics import quantile
from app.bench.target import Target
from app.bench.workload import Workload

TIMEOUT_S = 600.0
TICK_S = 0.02
MAX_CPU_SHARE = 0.85
MAX_LAG_S = 0.05


@dataclass(frozen=True)
class GeneratorLoad:
    """`lag_s`: how late the generator's own timers were, 99th percentile."""

    cpu_s: float
    wall_s: float
    lag_s: float

    @property
    def was_limit(self) -> bool:
        return self.cpu_s > MAX_CPU_SHARE * self.wall_s or self.lag_s > MAX_LAG_S


@dataclass(frozen=True)
class Run:
    outcomes: list[Outcome]
    generator: GeneratorLoad


def measure(
    target: Target, model: str, workload: Workload, arrivals: Arrivals, progress: Progress
) -> Run:
    """The run's requests to `target`, to the last answer. `workload` has at least one request."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            return runner.run(
                Generator(target, workload.stream, progress).run(
                    workload.bodies(model), due_times(workload, arrivals), arrivals
                )
            )
        finally:
            gc.enable()
            gc.unfreeze()


def due_times(workload: Workload, arrivals: Arrivals) -> list[float] | None:
    """None for a closed loop: a request is due when a client is free."""
    if workload.has_times:
        return [ask.at_s or 0.0 for ask in workload.asks]
    if isinstance(arrivals, ClosedLoop):
        return None
    dice = random.Random(workload.seed)  # noqa: S311 - a workload, not a secret
    return arrivals.due_times(len(workload.asks), dice)


class Generator:
    def __init__(self, target: Target, stream: bool, progress: Progress) -> None:
        self._client = Client(target)
        self._stream = stream
        self._progress = progress
        self._outcomes: list[Outcome] = []

    async def run(
        self, bodies: Sequence[bytes], due_s: Sequence[float] | None, arrivals: Arrivals
    ) -> Run:
        requests = [self._client.request(body) for body in bodies]
        lags: list[float] = []
        ticker = asyncio.create_task(tick(lags))
        began_s, cpu_s = time.monotonic(), time.process_time()
        if isinstance(arrivals, ClosedLoop) and due_s is None:
            await self.run_closed(requests, arrivals.concurrency)
        else:
            await self.run_open(requests, due_s or [])
        wall_s, cpu_s = time.monotonic() - began_s, time.process_time() - cpu_s
        ticker.cancel()
        self._client.close()
        self._progress.finish()
        lag_s = quantile(sorted(lags), 0.99) if lags else 0.0
        return Run(self._outcomes, GeneratorLoad(cpu_s, wall_s, lag_s))

    async def run_closed(self, requests: Sequence[bytes], concurrency: int) -> None:
        waiting = iter(requests)

        async def work() -> None:
            for request in waiting:
                await self.send(request, time.monotonic())

        async with asyncio.TaskGroup() as workers:
            for _ in range(min(concurrency, len(requests))):
                workers.create_task(work())

    async def run_open(self, requests: Sequence[bytes], due_s: Sequence[float]) -> None:
        began_s = time.monotonic()
        async with asyncio.TaskGroup() as sending:
            for at_s, request in sorted(zip(due_s, requests, strict=True)):
                due = began_s + at_s
                await asyncio.sleep(due - time.monotonic())
                sending.create_task(self.send(request, due))

    async def send(self, request: bytes, due_s: float) -> None:
        outcome = Outcome(due_s=due_s, started_s=time.monotonic())
        try:
            reply = await self._client.exchange(request, TIMEOUT_S)
        except ReplyError as error:
            outcome.ended_s = time.monotonic()
            outcome.error = str(error)
        else:
            outcome.ended_s = time.monotonic()
            note_reply(outcome, reply, stream=self._stream)
        self._outcomes.append(outcome)
        self._progress.advance(failed=outcome.error is not None)


async def tick(lags: list[float]) -> None:
    while True:
        due_s = time.monotonic() + TICK_S
        await asyncio.sleep(TICK_S)
        lags.append(time.monotonic() - due_s)
