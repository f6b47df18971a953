"""Where the service stands, as one small state machine."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum


class Phase(StrEnum):
    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"
    SATURATED = "saturated"
    LEAVING = "leaving"
    DRAINING = "draining"
    ENGINE_DEAD = "engine_dead"
    HUNG = "hung"


# Where each phase may lead. A dead or hung engine is final: the process ends.
_FAILED = {Phase.ENGINE_DEAD, Phase.HUNG}
_NEXT = {
    Phase.STARTING: {Phase.LOADING, Phase.DRAINING},
    Phase.LOADING: {Phase.READY, Phase.DRAINING, Phase.ENGINE_DEAD},
    Phase.READY: {Phase.SATURATED, Phase.LEAVING, Phase.DRAINING, *_FAILED},
    Phase.SATURATED: {Phase.READY, Phase.LEAVING, Phase.DRAINING, *_FAILED},
    Phase.LEAVING: {Phase.DRAINING, *_FAILED},
    Phase.DRAINING: _FAILED,
    Phase.ENGINE_DEAD: set[Phase](),
    Phase.HUNG: set[Phase](),
}

_REASONS = {
    Phase.STARTING: "the service is starting",
    Phase.LOADING: "the model is loading",
    Phase.READY: "",
    Phase.SATURATED: "more requests are in hand than the engine runs at once",
    Phase.LEAVING: "the service is about to shut down",
    Phase.DRAINING: "the service is shutting down",
    Phase.ENGINE_DEAD: "the engine has died",
    Phase.HUNG: "the engine hangs",
}


@dataclass
class ServiceState:
    """The current phase; `observers` are told of each change. `num_running`: requests in hand.

    `ready_when_saturated`: whether a load balancer may go on sending while requests wait.
    """

    phase: Phase = Phase.STARTING
    observers: list[Callable[[Phase], None]] = field(default_factory=list)
    num_running: int = 0
    ready_when_saturated: bool = True

    def enter(self, phase: Phase) -> None:
        """Go on to `phase`. A step that the table does not have is a bug of ours: ValueError."""
        if phase is self.phase:
            return
        if phase not in _NEXT[self.phase]:
            raise ValueError(f"no way from {self.phase} to {phase}")
        self.phase = phase
        for observe in tuple(self.observers):  # one may take itself off
            observe(phase)

    def once_ready(self, act: Callable[[], None]) -> None:
        """`act()` when it is ready for the first time; it may be saturated and ready again."""
        pending = [act]

        def observe(phase: Phase) -> None:
            if phase is Phase.READY and pending:
                pending.pop()()

        self.observers.append(observe)

    @property
    def is_alive(self) -> bool:
        return self.phase not in _FAILED

    @property
    def takes_requests(self) -> bool:
        return self.phase in (Phase.READY, Phase.SATURATED, Phase.LEAVING)

    @property
    def is_ready(self) -> bool:
        """Whether new requests should be sent here; what is sent all the same may be taken."""
        return self.phase is Phase.READY or (
            self.phase is Phase.SATURATED and self.ready_when_saturated
        )

    @property
    def reason(self) -> str:
        """What keeps it from being plainly ready, as words; empty when nothing does."""
        return _REASONS[self.phase]
