import asyncio
import time
from itertools import islice

from app.bench.crowds import Crowd, Scene, bodies_of, play_until
from app.bench.outcome import Outcome
from app.bench.target import Target
from tests.unit.bench.scripted_server import KEY, scripted_server


def outcome(due_s: float, *chunks_s: float, error: str | None = None) -> Outcome:
    return Outcome(
        due_s=due_s,
        chunk_times=list(chunks_s),
        num_prompt_tokens=10,
        num_output_tokens=10,
        error=error,
    )


def test_only_what_comes_in_the_time_counts() -> None:
    whole = outcome(10, 11, 12, 13, 14)
    half = outcome(18, 19, 19.5, 20, 20.5)
    early = outcome(9, 10, 11)
    failed = outcome(12, 13, error="error event")
    scene = Scene({"a": [whole, half, early, failed]}, 10, 20)
    assert scene.num_tokens("a") == 20 + 10 + 20
    assert scene.first_tokens_s("a") == [1, 1, 1]
    assert scene.num_failed("a") == 1


def test_no_two_questions_in_a_row_are_the_same() -> None:
    crowd = Crowd("a", Target("t", "http://t"), 1, 8)
    bodies = list(islice(bodies_of(crowd, "m"), 20))
    assert len(set(bodies)) == 20


def crowd_for(url: str, in_flight: int) -> Crowd:
    return Crowd("a", Target("t", url, KEY), in_flight, 8)


def outcomes_at(url: str, in_flight: int, seconds: float) -> list[Outcome]:
    crowds = [crowd_for(url, in_flight)]
    return asyncio.run(play_until(crowds, "m", time.monotonic() + seconds))["a"]


def test_a_crowd_keeps_so_many_requests_in_flight() -> None:
    with scripted_server("a", "b", pause_s=0.05) as server:
        outcomes = outcomes_at(server.url, 3, 2)
        assert server.most_in_flight == 3
    assert len(outcomes) > 6
    assert all(each.error is None and each.num_output_tokens == 3 for each in outcomes)


def test_a_refused_request_is_counted_and_not_sent_again_at_once() -> None:
    with scripted_server(status=503) as server:
        outcomes = outcomes_at(server.url, 2, 0.5)
    assert [each.error for each in outcomes] == ["status 503"] * 2
