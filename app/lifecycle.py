"""The life of the service: load, watch, drain, stop; and the exit code it ends with."""

import asyncio
import contextlib
import gc
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Any

from app.core.errors import AppError, StartError
from app.core.heartbeat import Heartbeat, Steady
from app.core.state import Phase, ServiceState

logger = logging.getLogger("gateway")

WATCH_INTERVAL_S, DRAIN_INTERVAL_S = 0.25, 0.05
# Streams in flight get their error event from vLLM within 0.3 s of the engine's death (measured).
LAST_WORDS_S = 1.5
EXIT_OK = 0
EXIT_FAILED = {Phase.ENGINE_DEAD: 70, Phase.HUNG: 71}


@dataclass(frozen=True)
class Steps:
    """What `main` composes: how to load and connect an engine, how to see how it is, and how to end
    its processes, whatever they do (`kill`).
    """

    load: Callable[[], Any]
    connect: Callable[[Any], Awaitable[None]]
    is_dead: Callable[[], bool]
    is_full: Callable[[], bool]
    kill: Callable[[], None]


@dataclass(frozen=True)
class Farewell:
    """How long new requests are still taken once the service is told to end, and how long what
    runs then may go on."""

    delay_s: float
    drain_timeout_s: float


class Lifecycle:
    def __init__(
        self, state: ServiceState, steps: Steps, heartbeat: Heartbeat, farewell: Farewell
    ) -> None:
        self.state, self.steps, self.heartbeat = state, steps, heartbeat
        self.farewell = farewell
        self.exit_code = EXIT_OK
        self._termination = asyncio.Event()
        self._hurry = asyncio.Event()
        self._fullness = Steady()

    def terminate(self) -> None:
        """SIGTERM or SIGINT: leave and drain; the second time: end at once."""
        (self._hurry if self._termination.is_set() else self._termination).set()

    async def run(self) -> None:
        """Until the service has nothing more to do. The listeners serve meanwhile."""
        loading = asyncio.create_task(self._load())
        stopping = asyncio.create_task(self._termination.wait())
        await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not loading.done():
            loading.cancel()
            self.state.enter(Phase.DRAINING)
            return
        loading.result()
        beating = asyncio.create_task(self.heartbeat.run())
        failure = await self._serve() or await self._leave() or await self._drain()
        if failure is not None:
            await self._fail(failure)
        beating.cancel()

    async def _load(self) -> None:
        self.state.enter(Phase.LOADING)
        started = monotonic()
        try:
            with uncollected():
                engine = await in_daemon_thread(self.steps.load)
                await self._connect(engine)
        except AppError:
            raise
        except Exception as error:
            raise StartError(
                f"The engine did not start ({type(error).__name__}: {error})"
            ) from error
        self.state.enter(Phase.READY)
        logger.info("ready", extra={"load_s": round(monotonic() - started, 1)})

    async def _connect(self, engine: Any) -> None:
        """vLLM's calls to an engine that dies meanwhile would wait for ever."""
        connecting = asyncio.ensure_future(self.steps.connect(engine))
        while not connecting.done():
            if self.steps.is_dead():
                connecting.cancel()
                raise StartError("The engine died while it was warmed up; its own words are above.")
            await asyncio.wait({connecting}, timeout=WATCH_INTERVAL_S)
        connecting.result()

    async def _serve(self) -> Phase | None:
        """Until the service is told to stop (None), or the engine has failed (how)."""
        async for passed_s in ticks(WATCH_INTERVAL_S, self._termination):
            if failure := self._failure(passed_s):
                return failure
            if self._termination.is_set():
                return None
            is_full = self._fullness.tick(self.steps.is_full(), passed_s)
            self.state.enter(Phase.SATURATED if is_full else Phase.READY)
        return None

    async def _leave(self) -> Phase | None:
        """Not ready any more, so that nothing more is sent here; what still comes is taken."""
        if not self.farewell.delay_s:
            return None
        self.state.enter(Phase.LEAVING)
        logger.info("leaving", extra={"for_s": self.farewell.delay_s})
        return await self._watch(self.farewell.delay_s, lambda: False)

    async def _drain(self) -> Phase | None:
        """No new requests; the running ones may finish."""
        self.state.enter(Phase.DRAINING)
        logger.info("draining", extra={"running": self.state.num_running})
        return await self._watch(self.farewell.drain_timeout_s, lambda: not self.state.num_running)

    async def _watch(self, at_most_s: float, is_over: Callable[[], bool]) -> Phase | None:
        """Until it is over, the time is, or the service is hurried (None); or the engine fails."""
        deadline = monotonic() + at_most_s
        async for passed_s in ticks(DRAIN_INTERVAL_S, self._hurry):
            if failure := self._failure(passed_s):
                return failure
            if is_over() or monotonic() >= deadline or self._hurry.is_set():
                return None
        return None

    def _failure(self, passed_s: float) -> Phase | None:
        self.heartbeat.tick(passed_s)
        if self.steps.is_dead():
            return Phase.ENGINE_DEAD
        return Phase.HUNG if self.heartbeat.is_lost else None

    async def _fail(self, failure: Phase) -> None:
        """Tell whoever still waits, and leave the exit code of this failure."""
        self.exit_code = EXIT_FAILED[failure]
        self.state.enter(failure)
        logger.error(
            "the engine has failed; the process ends so that it is restarted",
            extra={"reason": self.state.reason, "silent_s": round(self.heartbeat.silent_s, 1)},
        )
        self.steps.kill()  # vLLM tells the streams of a dead engine, not those of a hung one
        await asyncio.sleep(LAST_WORDS_S)


async def ticks(interval_s: float, wake: asyncio.Event) -> AsyncIterator[float]:
    """Now, again every `interval_s`, and when `wake` is set: the seconds since the tick before."""
    before = monotonic()
    while True:
        now = monotonic()
        yield now - before
        before = now
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(interval_s):  # wait_for starts a task each time
                await wake.wait()


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """What is loaded stays: looking through it for garbage meanwhile costs seconds of a start."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def in_daemon_thread(work: Callable[[], Any]) -> Any:
    """`work()` in a thread that does not keep the process alive when the load is given up."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)

    def body() -> None:
        result, failure = None, None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 (carried to the loop, whatever it is)
            failure = error
        loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=body, name="engine-loader", daemon=True).start()
    return await done
