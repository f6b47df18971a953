import pytest

from app.core.pace import Pace


class Clock:
    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def end(pace: Pace, clock: Clock, times: int, gap_s: float, *, has_demand: bool = True) -> None:
    for _ in range(times):
        clock.now_s += gap_s
        pace.note_end(has_demand)


def test_nothing_is_known_before_an_end_under_demand(clock: Clock) -> None:
    pace = Pace(clock)
    end(pace, clock, 10, 1.0, has_demand=False)
    assert pace.gap_s is None
    pace.note_demand()
    assert pace.gap_s is None
    end(pace, clock, 1, 2.0)
    assert pace.gap_s == pytest.approx(2.0)


def test_ends_without_demand_do_not_count(clock: Clock) -> None:
    pace = Pace(clock)
    pace.note_demand()
    end(pace, clock, 20, 0.5)
    end(pace, clock, 1, 0.5, has_demand=False)
    end(pace, clock, 5, 100.0, has_demand=False)
    assert pace.gap_s == pytest.approx(0.5)


def test_bursts_of_ends_are_averaged_over_more_than_one_round(clock: Clock) -> None:
    pace = Pace(clock)
    pace.remember(100)
    pace.note_demand()
    for _ in range(30):
        end(pace, clock, 1, 10.0)
        end(pace, clock, 99, 0.0)
        assert pace.gap_s is not None
    assert pace.gap_s == pytest.approx(0.1, rel=0.25)


def test_the_first_end_of_the_first_round_says_nothing(clock: Clock) -> None:
    pace = Pace(clock)
    pace.remember(8)
    pace.note_demand()
    end(pace, clock, 1, 10.0)
    assert pace.gap_s is None
    end(pace, clock, 7, 0.0)
    assert pace.gap_s == pytest.approx(10 / 8, rel=0.25)


def test_the_estimate_grows_while_no_end_comes_and_follows_a_faster_engine(clock: Clock) -> None:
    pace = Pace(clock)
    pace.note_demand()
    end(pace, clock, 40, 1.0)
    clock.now_s += 60
    assert (pace.gap_s or 0) > 2
    end(pace, clock, 200, 0.01)
    assert (pace.gap_s or 1) < 0.1


def test_refusals_alone_keep_it_measured(clock: Clock) -> None:
    """What is refused by the estimate does not wait: the estimate must not freeze."""
    pace = Pace(clock)
    pace.note_demand()
    end(pace, clock, 40, 10.0)
    for _ in range(300):
        pace.note_demand()
        end(pace, clock, 1, 0.1, has_demand=False)
    assert pace.gap_s == pytest.approx(0.1, rel=0.1)


def test_one_slow_first_token_does_not_make_later_ones_look_hopeless(clock: Clock) -> None:
    pace = Pace(clock)
    assert pace.prefill_s == 0
    for took_s in (13.0, 0.1, 0.1, 0.1):
        pace.note_prefill(took_s)
    assert pace.prefill_s == pytest.approx(0.1)
