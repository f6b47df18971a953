"""A few at a time, and the tenants take turns: who wants much waits for itself."""

from asyncio import Event
from collections import OrderedDict, deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class Lane:
    """A tenant with something in hand."""

    tenant: str | None
    waiting: "deque[Turn]" = field(default_factory=deque)
    num_running: int = 0

    @property
    def num_in_hand(self) -> int:
        return len(self.waiting) + self.num_running


@dataclass(slots=True, eq=False)
class Turn:
    lane: Lane
    has_come: Event = field(default_factory=Event)


class Turns:
    """Next is the tenant with the fewest running; of those with equally many, the one whose last
    turn ended, or that came, longest ago; of its own, what came first. None is a tenant too."""

    def __init__(self, num_places: int) -> None:
        self._num_free = num_places
        # In the order in which a turn of theirs last ended, or they came.
        self._lanes: OrderedDict[str | None, Lane] = OrderedDict()

    def num_in_hand(self, tenant: str | None) -> int:
        """How many turns of the tenant run or wait."""
        lane = self._lanes.get(tenant)
        return lane.num_in_hand if lane else 0

    def join(self, tenant: str | None) -> Turn:
        """Wait until it `has_come`; `leave` it in any case."""
        turn = Turn(self._lanes.setdefault(tenant, Lane(tenant)))
        turn.lane.waiting.append(turn)
        self._dispatch()
        return turn

    def leave(self, turn: Turn) -> None:
        """It is done, or waits no longer. Once for each turn."""
        lane = turn.lane
        if turn.has_come.is_set():
            lane.num_running -= 1
            self._num_free += 1
            self._lanes.move_to_end(lane.tenant)
        else:
            lane.waiting.remove(turn)
        if not lane.num_in_hand:
            del self._lanes[lane.tenant]
        self._dispatch()

    def _dispatch(self) -> None:
        while self._num_free and (lane := self._next()):
            self._num_free -= 1
            lane.num_running += 1
            lane.waiting.popleft().has_come.set()

    def _next(self) -> Lane | None:
        waiting = (lane for lane in self._lanes.values() if lane.waiting)
        return min(waiting, key=lambda lane: lane.num_running, default=None)  # the first of equals
