"""The life of the service over a stand-in for the engine: every way from start to end."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from app.core.errors import StartError
from app.core.heartbeat import ASK_EVERY_S, Heartbeat
from app.core.state import Phase, ServiceState
from app.lifecycle import EXIT_FAILED, Farewell, Lifecycle, Steps


@dataclass
class StandIn:
    """An engine as the lifecycle sees it; `hangs` never answers, `connects` never returns.
    `patience_s`: silence for which it counts as hung, far more than a busy machine stands still."""

    is_dead: bool = False
    is_full: bool = False
    hangs: bool = False
    connects: bool = True
    patience_s: float = 30 * ASK_EVERY_S
    num_kills: int = 0
    phases: list[Phase] = field(default_factory=list)
    state: ServiceState = field(default_factory=ServiceState)

    async def connect(self, _: object) -> None:
        if not self.connects:
            await asyncio.Event().wait()

    async def answer(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()

    def kill(self) -> None:
        self.num_kills += 1

    def lifecycle(self, farewell: Farewell) -> Lifecycle:
        self.state.observers.append(self.phases.append)
        steps = Steps(
            lambda: object(),
            self.connect,
            lambda: self.is_dead,
            lambda: self.is_full,
            self.kill,
        )
        heartbeat = Heartbeat(self.answer, limit_s=self.patience_s)
        return Lifecycle(self.state, steps, heartbeat, farewell)

    async def until(self, phase: Phase) -> None:
        async with asyncio.timeout(60):
            while self.state.phase is not phase:  # noqa: ASYNC110 (a dataclass of the service)
                await asyncio.sleep(0.01)


def live(
    engine: StandIn,
    meanwhile: Callable[[Lifecycle], Awaitable[None]],
    *,
    drain_delay_s: float = 0,
    drain_timeout_s: float = 5,
) -> int:
    """Run a whole life while `meanwhile` happens; the exit code."""

    async def body() -> int:
        lifecycle = engine.lifecycle(Farewell(drain_delay_s, drain_timeout_s))
        running = asyncio.create_task(lifecycle.run())
        await meanwhile(lifecycle)
        async with asyncio.timeout(60):
            await running
        return lifecycle.exit_code

    return asyncio.run(body())


@pytest.mark.parametrize(("failure", "code"), EXIT_FAILED.items())
def test_a_failed_engine_ends_the_process_so_that_it_is_restarted(
    failure: Phase, code: int
) -> None:
    engine = StandIn(hangs=failure is Phase.HUNG, patience_s=2 * ASK_EVERY_S)

    async def meanwhile(_: Lifecycle) -> None:
        await engine.until(Phase.READY)
        engine.is_dead = failure is Phase.ENGINE_DEAD
        await engine.until(failure)
        assert not engine.state.is_alive

    assert live(engine, meanwhile) == code != 0
    assert engine.num_kills == 1


def test_an_engine_that_hangs_while_draining_is_seen_too() -> None:
    engine = StandIn(patience_s=4 * ASK_EVERY_S)

    async def meanwhile(lifecycle: Lifecycle) -> None:
        await engine.until(Phase.READY)
        engine.state.num_running = 1
        engine.hangs = True
        await asyncio.sleep(ASK_EVERY_S)
        lifecycle.terminate()

    assert live(engine, meanwhile, drain_timeout_s=60) == EXIT_FAILED[Phase.HUNG]
    assert engine.phases[-2:] == [Phase.DRAINING, Phase.HUNG]


def test_an_engine_that_dies_while_it_is_connected_stops_the_start() -> None:
    engine = StandIn(is_dead=True, connects=False)

    async def meanwhile(_: Lifecycle) -> None:
        pass

    with pytest.raises(StartError, match="died"):
        live(engine, meanwhile)


def test_garbage_is_collected_again_when_the_engine_is_ready() -> None:
    engine = StandIn(connects=False)

    async def meanwhile(lifecycle: Lifecycle) -> None:
        await engine.until(Phase.LOADING)
        assert not gc.isenabled()
        engine.is_dead = True

    with pytest.raises(StartError):
        live(engine, meanwhile)
    assert gc.isenabled()


def test_a_full_engine_is_alive_and_comes_back() -> None:
    engine = StandIn()

    async def meanwhile(lifecycle: Lifecycle) -> None:
        await engine.until(Phase.READY)
        engine.is_full = True
        await engine.until(Phase.SATURATED)
        assert engine.state.is_alive
        assert engine.state.takes_requests
        assert engine.state.is_ready
        engine.state.ready_when_saturated = False
        assert not engine.state.is_ready
        engine.is_full = False
        await engine.until(Phase.READY)
        assert engine.state.is_ready
        lifecycle.terminate()

    assert live(engine, meanwhile) == 0


def test_what_still_comes_is_taken_until_balancers_have_seen_that_it_leaves() -> None:
    engine = StandIn()

    async def meanwhile(lifecycle: Lifecycle) -> None:
        await engine.until(Phase.READY)
        lifecycle.terminate()
        await engine.until(Phase.LEAVING)
        assert engine.state.takes_requests
        assert not engine.state.is_ready
        engine.state.num_running = 1
        await engine.until(Phase.DRAINING)
        assert not engine.state.takes_requests
        engine.state.num_running = 0

    assert live(engine, meanwhile, drain_delay_s=0.3) == 0


@pytest.mark.parametrize("phase", [Phase.LEAVING, Phase.DRAINING])
def test_a_second_sigterm_ends_it_at_once(phase: Phase) -> None:
    engine = StandIn()

    async def meanwhile(lifecycle: Lifecycle) -> None:
        await engine.until(Phase.READY)
        engine.state.num_running = 1
        lifecycle.terminate()
        await engine.until(phase)
        lifecycle.terminate()

    delay_s = 3600 if phase is Phase.LEAVING else 0
    assert live(engine, meanwhile, drain_delay_s=delay_s, drain_timeout_s=3600) == 0
