import pytest

from app.engine.simulated_clock import SimulatedClock, SimulatedFaultError
from app.engine.simulated_settings import SimulatedSettings


def durations(settings: SimulatedSettings, num_steps: int) -> list[float | None]:
    """Of each step; None for one that failed."""
    clock = SimulatedClock(settings)
    seen: list[float | None] = []
    for _ in range(num_steps):
        before_s = clock.done_s
        try:
            clock.start(10, now_s=0.0)
        except SimulatedFaultError:
            seen.append(None)
        else:
            seen.append(clock.done_s - before_s)
    return seen


def test_a_step_begins_when_the_one_before_it_is_done() -> None:
    clock = SimulatedClock(SimulatedSettings(step_ms=10, token_us=0))
    clock.start(1, now_s=5.0)
    clock.start(1, now_s=5.001)
    assert clock.done_s == pytest.approx(5.02)
    clock.start(1, now_s=7.0)
    assert clock.done_s == pytest.approx(7.01)


def test_as_many_steps_fail_as_asked() -> None:
    seen = durations(SimulatedSettings(failure_rate=0.1), 2000)
    assert seen.count(None) == pytest.approx(200, rel=0.3)


def test_as_many_steps_stall_as_asked_and_for_as_long() -> None:
    settings = SimulatedSettings(step_ms=1, token_us=0, stall_rate=0.1, stall_ms=50)
    seen = [step for step in durations(settings, 2000) if step is not None]
    assert len(seen) == 2000
    assert sum(step > 0.04 for step in seen) == pytest.approx(200, rel=0.3)
    assert max(seen) == pytest.approx(0.051)


def test_faults_are_the_same_for_the_same_seed_alone() -> None:
    first, again, other = (
        durations(SimulatedSettings(failure_rate=0.2, seed=seed), 100) for seed in (1, 1, 2)
    )
    assert first == again != other


def test_nothing_fails_or_stalls_unasked() -> None:
    assert set(durations(SimulatedSettings(step_ms=0, token_us=0), 100)) == {0.0}
