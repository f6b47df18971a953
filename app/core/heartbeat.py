"""Whether the engine makes progress, and whether it has more work than it can run."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

logger = logging.getLogger("gateway")

ASK_EVERY_S = 1.0
# A longer tick says that this process itself did not run: stopped, suspended, swapped out.
LONGEST_TICK_S = 1.0
STEADY_S = 2.0


class Heartbeat:
    """Asks the engine over and over, and counts for how long no answer has come.

    The engine's main loop answers between two steps: an answer proves that steps end and that
    their results arrive here, and a long queue delays it by one step at most.
    """

    def __init__(self, ask: Callable[[], Awaitable[object]], limit_s: float) -> None:
        """`limit_s` 0: never lost."""
        self._ask, self._limit_s = ask, limit_s
        self.silent_s = 0.0

    async def run(self) -> None:
        while True:
            try:
                await self._ask()
            except Exception as error:  # noqa: BLE001 (whatever it is, it is no answer)
                logger.warning("no heartbeat", extra={"error": type(error).__name__})
            else:
                self.silent_s = 0.0
            await asyncio.sleep(ASK_EVERY_S)

    def tick(self, passed_s: float) -> None:
        self.silent_s += min(passed_s, LONGEST_TICK_S)

    @property
    def is_lost(self) -> bool:
        return 0 < self._limit_s <= self.silent_s


class Steady:
    """A yes or no that follows its input only when that has stayed for STEADY_S: a queue that
    comes and goes would otherwise change the service's state many times a second."""

    def __init__(self) -> None:
        self.value = False
        self._differs_s = 0.0

    def tick(self, value: bool, passed_s: float) -> bool:
        self._differs_s = self._differs_s + passed_s if value is not self.value else 0.0
        if self._differs_s >= STEADY_S:
            self.value, self._differs_s = value, 0.0
        return self.value
