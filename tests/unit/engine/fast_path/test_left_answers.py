"""What is counted of an answer whose client did not wait for it, by vLLM's own `generate`."""

import asyncio
from types import SimpleNamespace

from vllm.sampling_params import RequestOutputKind, SamplingParams

from app.core.meter import Meter, current_meter
from app.engine.metered import num_unseen
from tests.unit.engine.fast_path.recorded_engine import PROMPT, Piece, RecordedEngine


async def tokens_of_one_who_leaves(kind: RequestOutputKind) -> int:
    engine, meter = RecordedEngine(), Meter()
    current_meter.set(meter)
    params = SamplingParams(max_tokens=99, output_kind=kind)

    async def read() -> None:
        async for _ in engine.generate({"prompt_token_ids": PROMPT}, params, "1"):
            pass

    reading = asyncio.create_task(read())
    await engine.until_asked("1")
    for piece in (Piece([97]), Piece([98, 99])):
        await engine.step({"1": piece})
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert engine.engine_core.aborted
    assert not engine.output_processor.request_states
    return meter.completion_tokens


def test_tokens_count_once_although_their_client_left_before_the_answer_was_whole() -> None:
    for kind in (RequestOutputKind.FINAL_ONLY, RequestOutputKind.DELTA):
        assert asyncio.run(tokens_of_one_who_leaves(kind)) == 3


def test_those_of_each_sequence_that_still_runs_do() -> None:
    def running(num_tokens: int) -> SimpleNamespace:
        detokenizer = SimpleNamespace(num_output_tokens=lambda: num_tokens)
        kind = RequestOutputKind.FINAL_ONLY
        return SimpleNamespace(detokenizer=detokenizer, output_kind=kind)

    parent = SimpleNamespace(child_requests={"0_a", "1_a", "2_a"})
    states = {"0_a": running(5), "2_a": running(7), "b": running(100)}
    processor = SimpleNamespace(parent_requests={"a": parent}, request_states=states)
    assert num_unseen(processor, "a") == 12
    assert num_unseen(processor, "gone") == 0
