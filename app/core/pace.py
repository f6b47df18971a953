"""How fast the engine takes what waits, as measured, for estimates of the wait."""

from collections import deque
from collections.abc import Callable
from statistics import median

# Ends that count: older ones fade. At least two rounds of the engine, see `remember`.
_LEAST_ENDS = 32
_NUM_PREFILLS = 15


class Pace:
    """Counts the ends of requests while there is more to do: only then do they say how fast the
    engine can be."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._fading = 1 - 1 / _LEAST_ENDS
        self._num_ends = 0.0
        self._num_unmeasured = 1
        self._busy_s = 0.0
        self._since_s: float | None = None
        self._prefills_s: deque[float] = deque(maxlen=_NUM_PREFILLS)

    def remember(self, num_places: int) -> None:
        """Requests that began together end together: a mean has to span more than one round, and
        the first end of the first round says nothing, as the others follow at once."""
        self._fading = 1 - 1 / max(_LEAST_ENDS, 2 * num_places)
        self._num_unmeasured = num_places

    def note_demand(self) -> None:
        """There is more than the engine can take: a request waits, or was refused for it."""
        if self._since_s is None:
            self._since_s = self._clock()

    def note_end(self, has_demand: bool) -> None:
        """A request has left the engine; `has_demand`: whether others wait on."""
        now_s = self._clock()
        if self._since_s is not None:
            self._busy_s = self._busy_s * self._fading + now_s - self._since_s
            self._num_ends = self._num_ends * self._fading + 1
            self._num_unmeasured = max(0, self._num_unmeasured - 1)
        self._since_s = now_s if has_demand else None

    def note_prefill(self, took_s: float) -> None:
        """From a place in the engine to the first token."""
        self._prefills_s.append(took_s)

    @property
    def prefill_s(self) -> float:
        """The median: a first request that compiles something must not make all later ones look
        hopeless. 0 before the first."""
        return median(self._prefills_s) if self._prefills_s else 0.0

    @property
    def gap_s(self) -> float | None:
        """Seconds from one end to the next; None as long as no round was measured. It grows while
        none comes."""
        if self._num_unmeasured:
            return None
        mean_s = self._busy_s / self._num_ends
        if self._since_s is None:
            return mean_s
        open_s = self._clock() - self._since_s
        return max(mean_s, (self._busy_s + open_s) / (self._num_ends + 1))
