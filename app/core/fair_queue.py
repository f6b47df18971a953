"""Who gets the engine's next free place: by priority, then the tenant that was served least.

Served is counted as in the Virtual Token Counter of Sheng et al., "Fairness in Serving Large
Language Models" (OSDI 2024, arXiv 2401.00588), weighted as in its section on weighted fairness: a
tenant's counter grows by its prompt tokens when a request is admitted and by twice its completion
tokens as they come, divided by its weight. The tenant with the smallest counter is next. A tenant
that comes back is lifted to the others, so nobody saves up service by being away.

Nothing that runs is interrupted, so one tenant may not take all that runs while others come and go:
a place is kept for them, and a light tenant's next request finds it free.

The engine gets as many sequences as it runs at once and a few more (its own queue is first come,
first served); what a request might need of the KV cache is never reserved, but no one is added
while the cache is nearly full.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from math import ceil, inf
from time import monotonic
from typing import Protocol

from app.core.errors import Unavailable
from app.core.pace import Pace

_PROMPT_COST, _COMPLETION_COST = 1.0, 2.0
# A tenant that was here so recently is expected back.
_EXPECTED_S = 5.0


class Priority(StrEnum):
    """Bands: as long as someone of an earlier one waits, nobody of a later one is admitted."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


@dataclass(frozen=True)
class QueueBounds:
    """`max_waiting`: of one tenant, so that none can fill the queue for the others. `max_wait_s`:
    who would wait longer, by the estimate, is refused at once, and who really does is refused then.
    `kv_cache_high`: the share of the KV cache in use from which nobody is added."""

    max_waiting: int
    max_wait_s: float
    kv_cache_high: float


class QueueObserver(Protocol):
    """What the metrics hear."""

    def waiting(self, tenant: str, change: int) -> None: ...
    def admitted(self, tenant: str, waited_s: float) -> None: ...


@dataclass(slots=True)
class Lane:
    """A tenant. `served`: weighted tokens."""

    name: str
    weight: float = 1.0
    served: float = 0.0
    num_taken: int = 0
    seen_s: float = 0.0
    num_waiting: int = 0
    waiting: dict[Priority, "deque[Waiter]"] = field(
        default_factory=lambda: {priority: deque() for priority in Priority}
    )

    def charge(self, num_tokens: int) -> None:
        """Completion tokens as they come."""
        self.served += num_tokens * _COMPLETION_COST / self.weight


@dataclass(slots=True, eq=False)
class Place:
    """A request in the engine, with all its sequences."""

    lane: Lane
    num_sequences: int
    waited_s: float = 0.0
    since_s: float = 0.0
    has_left: bool = False

    def charge(self, num_tokens: int) -> None:
        self.lane.charge(num_tokens)


@dataclass(slots=True, eq=False)
class Waiter:
    lane: Lane
    priority: Priority
    num_sequences: int
    num_prompt: int
    since_s: float
    granted: "asyncio.Future[Place]"


class FairQueue:
    def __init__(
        self, bounds: QueueBounds, observer: QueueObserver, clock: Callable[[], float] = monotonic
    ) -> None:
        self.bounds, self.observer, self.clock = bounds, observer, clock
        self.num_places = 0
        self.num_kept = 0
        self.num_taken = 0
        self.num_waiting = 0
        self._lanes: dict[str, Lane] = {}
        self._lift = 0.0
        self._is_cache_full = False
        self._pace = Pace(clock)

    def open(self, num_running: int, lookahead: int) -> None:
        """The engine is there; it runs so many sequences and gets `lookahead` more to wait in it.

        While others are expected, a tenant leaves the lookahead and one running place to them.
        """
        self.num_places, self.num_kept = num_running + lookahead, lookahead + 1
        self._pace.remember(self.num_places)
        self._dispatch()

    def note_kv_cache(self, usage: float) -> None:
        """The share of the KV cache that is in use, whenever the engine tells."""
        self._is_cache_full = usage >= self.bounds.kv_cache_high
        if not self._is_cache_full:
            self._dispatch()

    async def enter(
        self,
        tenant: str,
        weight: float,
        priority: Priority,
        num_sequences: int,
        num_prompt: int,
        within_s: float = inf,
    ) -> Place:
        """Wait for a place. Raises Unavailable where too many wait, it takes too long, or the first
        token is not to be expected `within_s`."""
        lane = self._lane(tenant, weight)
        is_free = self._is_free(lane, num_sequences)
        wait_s = 0.0 if is_free else self.expected_wait_s(lane, priority)
        self._refuse_what_comes_too_late(lane, wait_s, within_s)
        if is_free:
            return self._admit(lane, num_sequences, num_prompt, 0.0)
        granted: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        waiter = Waiter(lane, priority, num_sequences, num_prompt, self.clock(), granted)
        lane.waiting[priority].append(waiter)
        self._note_waiting(lane, 1)
        self._dispatch()
        return await self._wait(waiter)

    def _is_free(self, lane: Lane, num_sequences: int) -> bool:
        """Whether one more of the lane may go on at once. Those that wait may all be of lanes that
        have their share."""
        return not lane.num_waiting and not self._next() and self._fits(lane, num_sequences)

    def _refuse_what_comes_too_late(self, lane: Lane, wait_s: float, within_s: float) -> None:
        """A lane's first may wait whatever the estimate says, so that the engine always has
        something to do; and an empty engine is tried before a deadline is given up."""
        first_token_s = wait_s + (0.0 if within_s == inf else self._pace.prefill_s)
        if within_s <= 0 or (self.num_taken and first_token_s > within_s):
            code = "deadline_unreachable"
            sentence = (
                f"The first token takes {first_token_s:.1f} s by the estimate; "
                f"{max(0.0, within_s):.1f} s are left until the request's deadline."
            )
        elif lane.num_waiting >= self.bounds.max_waiting:
            code = "queue_full"
            sentence = f"{lane.num_waiting} requests of {lane.name} are waiting; try again later."
        elif lane.num_waiting and wait_s > self.bounds.max_wait_s:
            code = "overloaded"
            sentence = (
                f"A place in the engine is {wait_s:.1f} s away by the estimate; nobody waits for "
                f"more than {self.bounds.max_wait_s:g} s."
            )
        else:
            return
        self._pace.note_demand()
        raise Unavailable(sentence, code=code, retry_after_s=max(1, ceil(wait_s)))

    async def _wait(self, waiter: Waiter) -> Place:
        try:
            async with asyncio.timeout(self.bounds.max_wait_s):
                return await waiter.granted
        except TimeoutError:
            self._give_up(waiter)
            raise Unavailable(
                f"No place in the engine became free within {self.bounds.max_wait_s:g} s.",
                code="queue_timeout",
                retry_after_s=self.retry_after_s(waiter.lane.name, waiter.priority),
            ) from None
        except asyncio.CancelledError:
            self._give_up(waiter)
            raise

    def _give_up(self, waiter: Waiter) -> None:
        """It waits no longer; a place that it was given in the same moment goes to the next."""
        if waiter.granted.done() and not waiter.granted.cancelled():
            self.leave(waiter.granted.result())
            return
        if waiter in waiter.lane.waiting[waiter.priority]:
            waiter.lane.waiting[waiter.priority].remove(waiter)
            self._note_waiting(waiter.lane, -1)
        self._dispatch()

    def leave(self, place: Place) -> None:
        """The engine has done with it, however it ended. The first call counts."""
        if place.has_left:
            return
        place.has_left = True
        self._pace.note_end(self.num_waiting > 0)
        self.num_taken -= place.num_sequences
        place.lane.num_taken -= place.num_sequences
        place.lane.seen_s = self.clock()
        self._dispatch()

    def expected_wait_s(self, lane: Lane, priority: Priority) -> float:
        """What a request of the lane that came now would wait, at the pace at which the engine ends
        requests: for its own lane's, for earlier bands, and for the other lanes' turns meanwhile. 0
        as long as that pace was never measured."""
        gap_s = self._pace.gap_s
        if gap_s is None:
            return 0.0
        bands = list(Priority)
        earlier, up_to = bands[: bands.index(priority)], bands[: bands.index(priority) + 1]
        own = 1 + sum(len(lane.waiting[band]) for band in up_to)
        ahead = own
        for other in self._waiting_lanes():
            if other is not lane:
                turns = ceil(own * other.weight / lane.weight)
                ahead += sum(len(other.waiting[band]) for band in earlier)
                ahead += min(len(other.waiting[priority]), turns)
        return ahead * gap_s

    def retry_after_s(self, tenant: str, priority: Priority) -> int:
        lane = self._lanes.get(tenant) or Lane(tenant)
        return max(1, ceil(self.expected_wait_s(lane, priority)))

    def note_first_token(self, place: Place) -> None:
        """The engine has given the first token of what has the place."""
        self._pace.note_prefill(self.clock() - place.since_s)

    def _lane(self, tenant: str, weight: float) -> Lane:
        lane = self._lanes.get(tenant)
        if lane is None:
            lane = self._lanes[tenant] = Lane(tenant)
        lane.weight, lane.seen_s = weight, self.clock()
        if not lane.num_waiting:
            lowest = min((each.served for each in self._waiting_lanes()), default=self._lift)
            lane.served = max(lane.served, lowest)
        return lane

    def _waiting_lanes(self) -> Iterator[Lane]:
        return (lane for lane in self._lanes.values() if lane.num_waiting)

    def _note_waiting(self, lane: Lane, change: int) -> None:
        self.num_waiting += change
        lane.num_waiting += change
        if self.num_waiting:
            self._pace.note_demand()
        self.observer.waiting(lane.name, change)

    def _fits(self, lane: Lane, num_sequences: int) -> bool:
        """A request that is larger than the engine gets it for itself."""
        if self.num_taken == 0:
            return self.num_places > 0
        if self._is_cache_full or self.num_taken + num_sequences > self.num_places:
            return False
        return not self._has_its_share(lane, num_sequences)

    def _has_its_share(self, lane: Lane, num_sequences: int) -> bool:
        """Whether one more would take what is kept for others that are expected."""
        if lane.num_taken == 0 or lane.num_taken + num_sequences <= self.num_places - self.num_kept:
            return False
        since_s = self.clock() - _EXPECTED_S
        return any(each is not lane and each.seen_s > since_s for each in self._lanes.values())

    def _admit(self, lane: Lane, num_sequences: int, num_prompt: int, waited_s: float) -> Place:
        self.num_taken += num_sequences
        lane.num_taken += num_sequences
        self._lift = lane.served
        lane.served += num_prompt * _PROMPT_COST / lane.weight
        self.observer.admitted(lane.name, waited_s)
        return Place(lane, num_sequences, waited_s, self.clock())

    def _dispatch(self) -> None:
        """Give free places to those whose turn it is. Nobody overtakes a request that is too large
        for what is free now: it would never get in."""
        while (waiter := self._next()) and self._fits(waiter.lane, waiter.num_sequences):
            waiter.lane.waiting[waiter.priority].popleft()
            self._note_waiting(waiter.lane, -1)
            if waiter.granted.done():  # cancelled, and not yet gone
                continue
            waited_s = self.clock() - waiter.since_s
            waiter.granted.set_result(
                self._admit(waiter.lane, waiter.num_sequences, waiter.num_prompt, waited_s)
            )

    def _next(self) -> Waiter | None:
        """Whose turn it is; a tenant that has its share is passed over."""
        if not self.num_waiting:
            return None
        for priority in Priority:
            heads = [
                each.waiting[priority][0] for each in self._lanes.values() if each.waiting[priority]
            ]
            heads = [
                each for each in heads if not self._has_its_share(each.lane, each.num_sequences)
            ]
            if heads:
                return min(heads, key=lambda head: head.lane.served)
        return None
