"""More requests than the engine can answer, minutes of them, in virtual time."""

import asyncio
import random
from dataclasses import dataclass, field

import pytest

from app.core.errors import Unavailable
from app.core.fair_queue import FairQueue, Priority, QueueBounds
from tests.unit.silent_observer import SilentObserver
from tests.unit.virtual_time import run_virtually

NUM_PLACES, MEAN_S = 8, 1.0
CAPACITY = NUM_PLACES / MEAN_S
GOAL_S, MAX_WAIT_S = 2.0, 1.6
MINUTES_S = 240.0


@dataclass
class Seen:
    good: int = 0
    late: int = 0
    refused: int = 0
    waited_in_vain_s: list[float] = field(default_factory=list)


class Crowd:
    """Requests of a tenant, at random times, each in the engine for about a second."""

    def __init__(self, queue: FairQueue, tenant: str, rate: float, seed: int) -> None:
        self.queue, self.tenant, self.rate = queue, tenant, rate
        self.dice = random.Random(seed)
        self.seen = Seen()

    async def come(self) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as requests:
            while loop.time() < MINUTES_S:
                await asyncio.sleep(self.dice.expovariate(self.rate))
                requests.create_task(self.ask(self.dice.uniform(0.2, 1.8) * MEAN_S))

    async def ask(self, service_s: float) -> None:
        now = asyncio.get_running_loop().time
        begun_s = now()
        try:
            place = await self.queue.enter(self.tenant, 1, Priority.NORMAL, 1, 1)
        except Unavailable:
            self.seen.refused += 1
            self.seen.waited_in_vain_s.append(now() - begun_s)
            return
        await asyncio.sleep(0.05)
        self.queue.note_first_token(place)
        if now() - begun_s <= GOAL_S:
            self.seen.good += 1
        else:
            self.seen.late += 1
        await asyncio.sleep(service_s - 0.05)
        self.queue.leave(place)


async def play(*rates: float) -> list[Seen]:
    bounds = QueueBounds(1000, MAX_WAIT_S, 1.0)
    queue = FairQueue(bounds, SilentObserver(), asyncio.get_running_loop().time)
    queue.open(NUM_PLACES, lookahead=0)
    crowds = [Crowd(queue, f"t{number}", rate, number) for number, rate in enumerate(rates)]
    await asyncio.gather(*(crowd.come() for crowd in crowds))
    assert (queue.num_taken, queue.num_waiting) == (0, 0)
    return [crowd.seen for crowd in crowds]


@pytest.mark.parametrize("times", [2, 4, 20])
def test_nearly_all_that_can_be_answered_is_answered_in_time(times: int) -> None:
    (seen,) = run_virtually(play(times * CAPACITY))
    assert seen.good / MINUTES_S >= 0.9 * CAPACITY
    assert seen.late == 0


def test_most_of_what_is_refused_is_refused_at_once() -> None:
    (seen,) = run_virtually(play(4 * CAPACITY))
    at_once = sum(waited_s == 0 for waited_s in seen.waited_in_vain_s)
    assert at_once > 0.8 * seen.refused


def test_below_capacity_nobody_is_refused() -> None:
    (seen,) = run_virtually(play(0.6 * CAPACITY))
    assert seen.refused <= 0.01 * seen.good
    assert seen.late == 0


def test_a_light_tenant_is_answered_in_time_however_much_others_want() -> None:
    flood, light = run_virtually(play(4 * CAPACITY, 0.1 * CAPACITY))
    assert light.refused == light.late == 0
    assert (flood.good + light.good) / MINUTES_S >= 0.85 * CAPACITY  # a place is kept free
