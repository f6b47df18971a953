"""How long the simulated device is busy with a step, and when it fails."""

import random

from app.engine.simulated_settings import SimulatedSettings


class SimulatedFaultError(RuntimeError):
    """The fault that `failure_rate` asked for."""


class SimulatedClock:
    """One step after the other, as on a device; the same seed has the same faults and stalls."""

    def __init__(self, settings: SimulatedSettings) -> None:
        self._settings = settings
        self._dice = random.Random(settings.seed)  # noqa: S311 - repeatable faults
        self.done_s = 0.0

    def start(self, num_tokens: int, now_s: float) -> None:
        """Sets `done_s`, when this step's output is there. Raises SimulatedFaultError."""
        fails, stalls = self._dice.random(), self._dice.random()
        if fails < self._settings.failure_rate:
            raise SimulatedFaultError("a step failed, as the failure_rate setting asked")
        cost_s = self._settings.step_s(num_tokens)
        if stalls < self._settings.stall_rate:
            cost_s += self._settings.stall_ms / 1e3
        self.done_s = max(self.done_s, now_s) + cost_s
