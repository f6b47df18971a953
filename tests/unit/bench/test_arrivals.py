import itertools
import random

import pytest

from app.bench.arrivals import ArrivalsError, ClosedLoop, OpenLoop, parse_arrivals


def due_times(form: str, num_requests: int = 4000) -> list[float]:
    arrivals = parse_arrivals(form)
    assert isinstance(arrivals, OpenLoop)
    return arrivals.due_times(num_requests, random.Random(1))


def test_poisson_arrivals_have_their_rate_and_exponential_gaps() -> None:
    times = due_times("poisson:50")
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert len(times) / times[-1] == pytest.approx(50, rel=0.1)
    mean = sum(gaps) / len(gaps)
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    assert variance**0.5 == pytest.approx(mean, rel=0.1)


def test_bursts_come_together_at_the_same_overall_rate() -> None:
    times = due_times("bursty:50:8")
    assert len(set(times)) == len(times) / 8
    assert len(times) / times[-1] == pytest.approx(50, rel=0.2)


def test_a_ramp_gets_faster() -> None:
    times = due_times("ramp:10:100")
    first, last = times[400], times[-1] - times[-401]
    assert 400 / first == pytest.approx(14.5, rel=0.2)
    assert 400 / last == pytest.approx(95.5, rel=0.2)


def test_times_never_go_back_and_are_as_many_as_asked() -> None:
    for form in ("poisson:3", "bursty:3:7", "ramp:1:9", "ramp:9:1"):
        times = due_times(form, 100)
        assert len(times) == 100
        assert times == sorted(times)


def test_a_closed_loop_has_clients() -> None:
    assert parse_arrivals("closed:16") == ClosedLoop(16)


@pytest.mark.parametrize(
    "form", ["", "closed", "closed:0", "closed:1.5", "poisson:-1", "poisson:nan", "poisson:inf",
             "bursty:1", "ramp:1:x", "uniform:3", "closed:1:2"],
)  # fmt: skip
def test_a_form_that_cannot_be_meant_is_refused(form: str) -> None:
    with pytest.raises(ArrivalsError):
        parse_arrivals(form)
