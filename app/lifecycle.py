"""The life of the service: load, watch, drain, stop; and the exit code it ends with."""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from app.core.errors import AppError, StartError
from app.core.state import Phase, ServiceState

logger = logging.getLogger("gateway")

WATCH_INTERVAL_S = 0.25
# Streams in flight get their error event from vLLM within 0.3 s of the engine's death (measured).
LAST_WORDS_S = 1.5
EXIT_OK, EXIT_ENGINE_DEAD = 0, 70


@dataclass(frozen=True)
class Steps:
    """What `main` composes: how to load, how to connect, how to see that the engine died."""

    load: Callable[[], Any]
    connect: Callable[[Any], Awaitable[None]]
    is_dead: Callable[[], bool]


class Lifecycle:
    def __init__(self, state: ServiceState, steps: Steps, drain_timeout_s: float) -> None:
        self.state, self.steps, self.drain_timeout_s = state, steps, drain_timeout_s
        self.exit_code = EXIT_OK
        self._termination = asyncio.Event()
        self._hurry = asyncio.Event()

    def terminate(self) -> None:
        """SIGTERM or SIGINT: drain; the second time: stop draining."""
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
        died = await self._watch(stopping)
        if died:
            self.exit_code = EXIT_ENGINE_DEAD
            self.state.enter(Phase.ENGINE_DEAD)
            logger.error("the engine has died; the process ends so that it is restarted")
            await asyncio.sleep(LAST_WORDS_S)
        else:
            await self._drain()

    async def _load(self) -> None:
        self.state.enter(Phase.LOADING)
        started = monotonic()
        try:
            engine = await in_daemon_thread(self.steps.load)
            await self.steps.connect(engine)
        except AppError:
            raise
        except Exception as error:
            raise StartError(
                f"The engine did not start ({type(error).__name__}: {error})"
            ) from error
        self.state.enter(Phase.READY)
        logger.info("ready", extra={"load_s": round(monotonic() - started, 1)})

    async def _watch(self, stopping: "asyncio.Task[bool]") -> bool:
        """Until the engine dies (True) or the service is told to stop (False)."""
        while not stopping.done():
            if self.steps.is_dead():
                return True
            await asyncio.wait({stopping}, timeout=WATCH_INTERVAL_S)
        return False

    async def _drain(self) -> None:
        """No new requests; the running ones may finish, for drain_timeout_s at most."""
        self.state.enter(Phase.DRAINING)
        logger.info("draining", extra={"running": self.state.num_running})
        deadline = monotonic() + self.drain_timeout_s
        while self.state.num_running and monotonic() < deadline and not self._hurry.is_set():
            if self.steps.is_dead():
                self.exit_code = EXIT_ENGINE_DEAD
                return
            await asyncio.sleep(0.05)


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
