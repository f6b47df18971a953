"""vLLM's own statistics are the same whoever takes the outputs."""

import asyncio
from typing import Any

from prometheus_client import CollectorRegistry, Histogram
from vllm.v1.metrics.stats import IterationStats

from app.core.histogram_counts import observe_times
from app.engine.fast_path.direct_streams import DirectStreams
from tests.unit.engine.fast_path.byte_tokenizer import tokens_of
from tests.unit.engine.fast_path.fast_client import CHAT_BODY, USAGE, Case, Client, fast_route, play
from tests.unit.engine.fast_path.recorded_engine import Piece, RecordedEngine
from tests.unit.engine.fast_path.test_differential import ENDS


class Recorder:
    """A stat logger that keeps what vLLM's output handler gives it."""

    def __init__(self) -> None:
        self.stat_loggers: list[Any] = []
        self.seen: list[IterationStats] = []

    def record(self, iteration_stats: IterationStats | None, **_: Any) -> None:
        if iteration_stats is not None:
            self.seen.append(iteration_stats)


def statistics(*, past_asgi: bool) -> list[dict[str, Any]]:
    pieces = [*(Piece([token, 98]) for token in tokens_of("abcdef")), Piece([97], ENDS[1])]
    case = Case(CHAT_BODY | USAGE, pieces)

    async def ask() -> list[dict[str, Any]]:
        engine = RecordedEngine()
        engine.logger_manager = recorder = Recorder()
        client = Client(case.body)
        route = fast_route(case, engine, DirectStreams(engine) if past_asgi else None)
        playing = asyncio.create_task(play(case, engine))
        await route(client.scope("1"), client.receive, client.send)
        await playing
        assert (client.num_direct > 0) == past_asgi
        return [comparable(each) for each in recorder.seen]

    return asyncio.run(ask())


def comparable(stats: IterationStats) -> dict[str, Any]:
    """Without what depends on the time of day."""
    finished = [
        (each.num_generation_tokens, each.num_prompt_tokens, each.decode_time, each.finish_reason)
        for each in stats.finished_requests
    ]
    return {
        "tokens": stats.num_generation_tokens,
        "gaps": stats.inter_token_latencies_iter,
        "first": len(stats.time_to_first_tokens_iter),
        "finished": finished,
    }


def test_each_step_is_recorded_the_same() -> None:
    found = statistics(past_asgi=True)
    assert found == statistics(past_asgi=False)
    assert sum(each["tokens"] for each in found) == 13


def test_many_equal_observations_are_as_many_single_ones() -> None:
    one, many = (
        Histogram("h", "", ["a"], buckets=[0.1, 0.5], registry=CollectorRegistry())
        for _ in range(2)
    )
    for value, count in ((0.05, 3), (0.1, 2), (0.2, 1), (7.0, 4)):
        observe_times(many.labels("x"), value, count)
        for _ in range(count):
            one.labels("x").observe(value)
    found, expected = ([s[:3] for s in next(iter(each.collect())).samples] for each in (many, one))
    assert [s for s in found if "created" not in s[0]][:4] == expected[:4]
    assert abs(found[4][2] - expected[4][2]) < 1e-9
