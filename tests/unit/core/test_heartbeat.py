"""The heartbeat counts the engine's silence, and only the engine's."""

import asyncio

import pytest

from app.core.heartbeat import Heartbeat, Steady


async def never() -> None:
    await asyncio.Event().wait()


def test_an_engine_that_does_not_answer_is_lost_after_the_limit() -> None:
    heartbeat = Heartbeat(never, limit_s=3)
    for _ in range(11):
        heartbeat.tick(0.25)
    assert not heartbeat.is_lost
    heartbeat.tick(0.25)
    assert heartbeat.is_lost


def test_an_answer_ends_the_silence_and_a_failure_does_not() -> None:
    fails = False

    async def answer() -> None:
        if fails:
            raise RuntimeError

    async def one_beat(heartbeat: Heartbeat) -> float:
        beating = asyncio.create_task(heartbeat.run())
        await asyncio.sleep(0)
        beating.cancel()
        return heartbeat.silent_s

    heartbeat = Heartbeat(answer, limit_s=3)
    heartbeat.tick(0.5)
    fails = True
    assert asyncio.run(one_beat(heartbeat)) == 0.5
    fails = False
    assert asyncio.run(one_beat(heartbeat)) == 0


def test_time_in_which_the_gateway_itself_was_stopped_is_not_held_against_the_engine() -> None:
    heartbeat = Heartbeat(never, limit_s=30)
    heartbeat.tick(3600)
    assert heartbeat.silent_s == 1
    assert not heartbeat.is_lost


def test_a_limit_of_0_never_ends() -> None:
    heartbeat = Heartbeat(never, limit_s=0)
    for _ in range(1000):
        heartbeat.tick(1)
    assert not heartbeat.is_lost


def test_a_queue_that_comes_and_goes_changes_nothing() -> None:
    steady = Steady()
    assert not any(steady.tick(number % 2 == 0, 0.5) for number in range(20))


@pytest.mark.parametrize("value", [True, False])
def test_what_stays_for_two_seconds_is_taken_over(value: bool) -> None:
    steady = Steady()
    steady.value = not value
    seen = [steady.tick(value, 0.5) for _ in range(4)]
    assert seen == [not value] * 3 + [value]
