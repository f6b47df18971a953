"""What the queue expects of the wait, and whom it refuses for it."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from app.core.errors import Unavailable
from app.core.fair_queue import FairQueue, Lane, Place, Priority, QueueBounds
from tests.unit.silent_observer import SilentObserver


class Played:
    """A queue before an engine of `num_places`, with time in the test's hands."""

    def __init__(self, num_places: int, max_wait_s: float = 1000, max_waiting: int = 1000) -> None:
        self.now_s = 0.0
        bounds = QueueBounds(max_waiting, max_wait_s, 1.0)
        self.queue = FairQueue(bounds, SilentObserver(), lambda: self.now_s)
        self.queue.open(num_places, lookahead=0)
        self.places: list[Place] = []
        self.waiting: list[asyncio.Task[Place]] = []

    async def come(self, tenant: str, *, weight: float = 1, **more: float) -> None:
        """One more request, which waits or runs. Raises what it is refused with."""
        entering = self.queue.enter(tenant, weight, Priority.NORMAL, 1, 1, **more)
        task = asyncio.create_task(entering)
        await asyncio.sleep(0)
        if task.done():
            self.places.append(task.result())
        else:
            self.waiting.append(task)

    async def work(self, times: int, gap_s: float) -> None:
        """So many requests end, one in `gap_s`, and others take their places."""
        for _ in range(times):
            self.now_s += gap_s
            self.queue.leave(self.places.pop(0))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            for task in [each for each in self.waiting if each.done()]:
                self.waiting.remove(task)
                self.places.append(task.result())

    async def leave(self) -> None:
        for task in self.waiting:
            task.cancel()
        await asyncio.gather(*self.waiting, return_exceptions=True)
        for place in self.places:
            self.queue.leave(place)
        assert (self.queue.num_taken, self.queue.num_waiting) == (0, 0)


def play(use: Callable[[Played], Awaitable[None]], played: Played) -> None:
    async def all_of_it() -> None:
        await use(played)
        await played.leave()

    asyncio.run(all_of_it())


async def flood(played: Played, waiting: int, *, gap_s: float) -> None:
    """Tenant `a` fills four places and has `waiting` more, at a measured pace."""
    for _ in range(4 + waiting + 30):
        await played.come("a")
    await played.work(30, gap_s)
    assert len(played.waiting) == waiting


def test_the_wait_is_what_stands_before_at_the_measured_pace() -> None:
    async def use(played: Played) -> None:
        await flood(played, 10, gap_s=0.5)
        queue = played.queue
        assert queue.expected_wait_s(Lane("b"), Priority.NORMAL) == pytest.approx(2 * 0.5, rel=0.1)
        assert queue.retry_after_s("a", Priority.NORMAL) == 6  # 11 times half a second
        heavy = Lane("c", weight=0.2)  # five turns of `a` for one of its own
        assert queue.expected_wait_s(heavy, Priority.NORMAL) == pytest.approx(6 * 0.5, rel=0.1)
        assert queue.expected_wait_s(Lane("d"), Priority.HIGH) == pytest.approx(0.5, rel=0.1)
        low = queue.expected_wait_s(Lane("e"), Priority.LOW)
        assert low == pytest.approx(11 * 0.5, rel=0.1)

    play(use, Played(4))


def test_who_would_wait_too_long_is_refused_at_once_and_told_when_to_come_back() -> None:
    async def use(played: Played) -> None:
        await flood(played, 3, gap_s=1.0)
        with pytest.raises(Unavailable) as raised:
            await played.come("a")
        assert raised.value.code == "overloaded"
        assert raised.value.retry_after_s == 4
        await played.come("b")  # its turn comes sooner

    play(use, Played(4, max_wait_s=3.5))


def test_the_first_of_a_tenant_waits_whatever_the_estimate_says() -> None:
    """Else an engine of one place would stand idle between requests."""

    async def use(played: Played) -> None:
        for _ in range(3):
            await played.come("a")
        await played.work(2, 60.0)
        await played.come("a")
        with pytest.raises(Unavailable):
            await played.come("a")

    play(use, Played(1, max_wait_s=5))


def test_a_deadline_that_cannot_be_met_is_refused_before_the_prefill() -> None:
    async def use(played: Played) -> None:
        await flood(played, 4, gap_s=0.5)
        for place in played.places:
            place.since_s = played.now_s - 0.25
            played.queue.note_first_token(place)
        with pytest.raises(Unavailable) as raised:
            await played.come("a", within_s=2.6)  # five turns, and a quarter for the first token
        assert raised.value.code == "deadline_unreachable"
        assert raised.value.retry_after_s == 3
        await played.come("a", within_s=4.0)
        await played.come("b", within_s=1.5)

    play(use, Played(4))


def test_a_deadline_that_has_passed_is_refused_even_by_an_empty_engine() -> None:
    async def use(played: Played) -> None:
        with pytest.raises(Unavailable):
            await played.come("a", within_s=0.0)
        await played.come("a", within_s=0.001)

    play(use, Played(4))


def test_an_empty_engine_is_tried_whatever_prefills_took_before() -> None:
    async def use(played: Played) -> None:
        await played.come("a")
        played.now_s += 30
        played.queue.note_first_token(played.places[0])
        with pytest.raises(Unavailable):
            await played.come("a", within_s=5.0)
        await played.work(1, 0.0)
        await played.come("a", within_s=5.0)
        assert len(played.places) == 1

    play(use, Played(4))


def test_a_place_that_is_kept_free_needs_no_estimate() -> None:
    async def use(played: Played) -> None:
        await played.come("b")
        await played.work(1, 0.0)
        for _ in range(30):
            await played.come("a")
        await played.work(20, 0.2)
        assert len(played.waiting) == 7
        assert len(played.places) == 3  # the fourth is kept for `b`
        await played.come("b", within_s=0.1)
        assert len(played.places) == 4

    play(use, Played(4))
