"""The queue before an engine that makes one token per step for each request that it has."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.errors import Unavailable
from app.core.fair_queue import FairQueue, Place, Priority, QueueBounds
from tests.unit.silent_observer import SilentObserver


def make_queue(num_places: int, max_waiting: int = 1000) -> FairQueue:
    queue = FairQueue(QueueBounds(max_waiting, 60, 0.9), SilentObserver())
    queue.open(num_places, lookahead=0)
    return queue


@dataclass
class Flood:
    """A tenant that always has `in_flight` requests of so many tokens."""

    name: str
    in_flight: int
    num_prompt: int
    num_completion: int
    weight: float = 1.0
    priority: Priority = Priority.NORMAL
    waits: list[int] = field(default_factory=list)


class Engine:
    """Steps by hand: each request in it gets a token per step."""

    def __init__(self, queue: FairQueue) -> None:
        self.queue, self.step = queue, 0
        self.running: dict[Place, int] = {}
        self.served: Counter[str] = Counter()
        self.most = 0

    async def client(self, flood: Flood) -> None:
        while True:
            arrived = self.step
            place = await self.queue.enter(
                flood.name, flood.weight, flood.priority, 1, flood.num_prompt
            )
            flood.waits.append(self.step - arrived)
            self.running[place] = flood.num_completion
            self.served[flood.name] += flood.num_prompt
            while place in self.running:  # noqa: ASYNC110 (steps are made by hand)
                await asyncio.sleep(0)

    def make_tokens(self) -> None:
        self.step += 1
        self.most = max(self.most, len(self.running))
        for place in list(self.running):
            self.running[place] -= 1
            self.served[place.lane.name] += 2
            place.charge(1)
            if not self.running[place]:
                del self.running[place]
                self.queue.leave(place)

    async def run(self, num_steps: int, *floods: Flood) -> Counter[str]:
        """Weighted tokens that each tenant was served."""
        clients = [
            asyncio.create_task(self.client(flood))
            for flood in floods
            for _ in range(flood.in_flight)
        ]
        for _ in range(num_steps):
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            self.make_tokens()
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        return self.served


def test_equal_tenants_get_equal_service_whatever_their_requests_look_like() -> None:
    many_short = Flood("a", 64, num_prompt=5, num_completion=20)
    few_long = Flood("b", 16, num_prompt=200, num_completion=100)
    served = asyncio.run(Engine(make_queue(8)).run(8000, many_short, few_long))
    assert served["a"] / served["b"] == pytest.approx(1, abs=0.1)


def test_weights_are_shares() -> None:
    heavy = Flood("a", 32, num_prompt=10, num_completion=30, weight=3)
    light = Flood("b", 32, num_prompt=10, num_completion=30)
    served = asyncio.run(Engine(make_queue(8)).run(8000, heavy, light))
    assert served["a"] / served["b"] == pytest.approx(3, rel=0.15)


def test_a_light_tenant_finds_a_place_free_beside_a_flood() -> None:
    flood = Flood("a", 64, num_prompt=10, num_completion=40)
    light = Flood("b", 1, num_prompt=10, num_completion=10)
    asyncio.run(Engine(make_queue(8)).run(3000, flood, light))
    assert len(light.waits) > 200
    assert max(light.waits[1:]) <= 1  # the first one meets a full engine
    assert min(len(flood.waits), 7 * 3000 // 40) > 500  # and the rest of it is the flood's


def test_alone_a_tenant_has_the_whole_engine_again_after_a_while() -> None:
    now_s = [100.0]
    queue = FairQueue(QueueBounds(10, 60, 0.9), SilentObserver(), lambda: now_s[0])
    queue.open(3, lookahead=1)

    async def use() -> None:
        queue.leave(await queue.enter("b", 1, Priority.NORMAL, 1, 1))
        tasks = [asyncio.create_task(queue.enter("a", 1, Priority.NORMAL, 1, 1)) for _ in range(4)]
        await asyncio.sleep(0)
        assert (queue.num_taken, queue.num_waiting) == (2, 2)
        now_s[0] += 6
        queue.note_kv_cache(0.1)
        assert (queue.num_taken, queue.num_waiting) == (4, 0)
        for task in tasks:
            queue.leave(await task)

    asyncio.run(use())


def test_who_comes_back_has_saved_up_nothing() -> None:
    async def use() -> Counter[str]:
        engine = Engine(make_queue(8))
        long_there = Flood("a", 32, num_prompt=10, num_completion=30)
        await engine.run(3000, long_there)
        engine.served.clear()
        engine.running.clear()
        engine.queue = make_queue_like(engine.queue)
        return await engine.run(3000, long_there, Flood("b", 32, num_prompt=10, num_completion=30))

    served = asyncio.run(use())
    assert served["a"] / served["b"] == pytest.approx(1, abs=0.1)


def make_queue_like(queue: FairQueue) -> FairQueue:
    """The same queue with the engine emptied: what ran was stopped without an end."""
    queue.num_taken = 0
    return queue


def test_an_earlier_band_goes_first_and_a_later_one_takes_what_is_left() -> None:
    high = Flood("a", 4, num_prompt=1, num_completion=10, priority=Priority.HIGH)
    low = Flood("b", 32, num_prompt=1, num_completion=10, priority=Priority.LOW)
    asyncio.run(Engine(make_queue(8)).run(1000, high, low))
    assert max(high.waits[8:]) <= 10
    assert low.waits


def test_the_bound_is_each_tenants_own() -> None:
    async def use() -> None:
        queue = make_queue(1, max_waiting=2)
        place = await queue.enter("a", 1, Priority.NORMAL, 1, 1)
        waiting = [asyncio.create_task(queue.enter("a", 1, Priority.NORMAL, 1, 1)) for _ in "ab"]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable) as raised:
            await queue.enter("a", 1, Priority.NORMAL, 1, 1)
        assert raised.value.code == "queue_full"
        assert (raised.value.retry_after_s or 0) >= 1
        other = asyncio.create_task(queue.enter("b", 1, Priority.NORMAL, 1, 1))
        await asyncio.sleep(0)
        assert queue.num_waiting == 3
        for task in (*waiting, other):
            task.cancel()
        await asyncio.wait({*waiting, other})
        queue.leave(place)
        queue.leave(place)
        assert (queue.num_waiting, queue.num_taken) == (0, 0)

    asyncio.run(use())


def test_nobody_is_added_while_the_kv_cache_is_full_unless_the_engine_is_empty() -> None:
    async def use() -> None:
        queue = make_queue(8)
        queue.note_kv_cache(0.95)
        place = await queue.enter("a", 1, Priority.NORMAL, 1, 1)
        second = asyncio.create_task(queue.enter("a", 1, Priority.NORMAL, 1, 1))
        await asyncio.sleep(0)
        assert queue.num_waiting == 1
        queue.note_kv_cache(0.5)
        assert queue.num_waiting == 0
        queue.leave(await second)
        queue.leave(place)

    asyncio.run(use())


def test_a_request_larger_than_the_engine_gets_it_for_itself() -> None:
    async def use() -> None:
        queue = make_queue(4)
        small = await queue.enter("a", 1, Priority.NORMAL, 1, 1)
        large = asyncio.create_task(queue.enter("a", 1, Priority.NORMAL, 9, 1))
        await asyncio.sleep(0)
        behind = asyncio.create_task(queue.enter("a", 1, Priority.NORMAL, 1, 1))
        await asyncio.sleep(0)
        assert queue.num_waiting == 2
        queue.leave(small)
        queue.leave(await large)
        queue.leave(await behind)
        assert queue.num_taken == 0

    asyncio.run(use())


STEP = st.sampled_from(["enter", "cancel", "leave", "cancel and leave", "full", "free"])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(STEP, st.integers(0, 30), st.integers(1, 3)), max_size=40))
def test_places_are_never_lost_and_never_given_twice(steps: list[tuple[str, int, int]]) -> None:
    asyncio.run(play(steps))


async def play(steps: list[tuple[str, int, int]]) -> None:
    queue = make_queue(4)
    tasks: list[asyncio.Task[Place]] = []
    places: list[Place] = []
    for step, number, size in steps:
        if step == "enter":
            band = list(Priority)[number % 3]
            tasks.append(asyncio.create_task(queue.enter(f"t{number % 4}", 1, band, size, number)))
        if step.startswith("cancel") and tasks:
            tasks[number % len(tasks)].cancel()
        if step.endswith("leave") and places:
            queue.leave(places.pop(number % len(places)))
        if step in ("full", "free"):
            queue.note_kv_cache(1.0 if step == "full" else 0.0)
        if number % 2:
            await settle(tasks, places)
            assert queue.num_taken == sum(place.num_sequences for place in places) <= 4
            assert queue.num_waiting == len(tasks)
    queue.note_kv_cache(0.0)
    while tasks or places:
        await settle(tasks, places)
        while places:
            queue.leave(places.pop())
    assert (queue.num_taken, queue.num_waiting) == (0, 0)


async def settle(tasks: list[asyncio.Task[Place]], places: list[Place]) -> None:
    """Let everything that can happen now happen, and take the places that were given."""
    for _ in range(4):
        await asyncio.sleep(0)
    for task in [task for task in tasks if task.done()]:
        tasks.remove(task)
        if not task.cancelled():
            places.append(task.result())
