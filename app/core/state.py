"""Where the service stands, as one small state machine."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from time import monotonic


class Phase(StrEnum):
    STARTING = "starting"
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    ENGINE_DEAD = "engine_dead"


# Where each phase may lead. A dead engine is final: the process ends.
_NEXT = {
    Phase.STARTING: {Phase.LOADING, Phase.DRAINING},
    Phase.LOADING: {Phase.READY, Phase.DRAINING, Phase.ENGINE_DEAD},
    Phase.READY: {Phase.DRAINING, Phase.ENGINE_DEAD},
    Phase.DRAINING: {Phase.ENGINE_DEAD},
    Phase.ENGINE_DEAD: set[Phase](),
}

_REASONS = {
    Phase.STARTING: "the service is starting",
    Phase.LOADING: "the model is loading",
    Phase.READY: "",
    Phase.DRAINING: "the service is shutting down",
    Phase.ENGINE_DEAD: "the engine has died",
}


@dataclass
class ServiceState:
    """The current phase; `observers` are told of each change. `num_running`: requests in hand."""

    phase: Phase = Phase.STARTING
    since: float = field(default_factory=monotonic)
    observers: list[Callable[[Phase], None]] = field(default_factory=list)
    num_running: int = 0

    def enter(self, phase: Phase) -> None:
        """Go on to `phase`. A step that the table does not have is a bug of ours: ValueError."""
        if phase is self.phase:
            return
        if phase not in _NEXT[self.phase]:
            raise ValueError(f"no way from {self.phase} to {phase}")
        self.phase, self.since = phase, monotonic()
        for observe in self.observers:
            observe(phase)

    @property
    def is_alive(self) -> bool:
        return self.phase is not Phase.ENGINE_DEAD

    @property
    def is_ready(self) -> bool:
        return self.phase is Phase.READY

    @property
    def reason(self) -> str:
        """Why it is not ready, as words; empty when it is."""
        return _REASONS[self.phase]
