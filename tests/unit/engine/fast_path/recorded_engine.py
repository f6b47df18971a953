"""vLLM's engine client and output processor, fed with recorded outputs instead of an engine's."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from vllm.sampling_params import SamplingParams
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, EngineCoreRequest, FinishReason
from vllm.v1.engine.output_processor import OutputProcessor, RequestOutputCollector

from app.engine.metered import MeteredAsyncLLM
from tests.unit.engine.fast_path.byte_tokenizer import byte_tokenizer

PROMPT = [32, 33, 34]
TURNS = 30  # of the event loop, until everything that follows from an output is done


@dataclass(frozen=True)
class Piece:
    """One output for a request. `finish`: by the engine's own reasons."""

    token_ids: Sequence[int]
    finish: FinishReason | None = None
    stop_reason: int | str | None = None
    events: list[Any] | None = None

    def output(self, request_id: str) -> EngineCoreOutput:
        return EngineCoreOutput(
            request_id,
            list(self.token_ids),
            finish_reason=self.finish,
            stop_reason=self.stop_reason,
            events=self.events,
        )


class RecordedCore:
    """The client's connection to the engine."""

    def __init__(self) -> None:
        self.steps: asyncio.Queue[EngineCoreOutputs | Exception] = asyncio.Queue()
        self.aborted: list[str] = []
        self.resources = SimpleNamespace(engine_dead=False)

    async def get_output_async(self) -> EngineCoreOutputs:
        step = await self.steps.get()
        if isinstance(step, Exception):
            raise step
        return step

    async def abort_requests_async(self, request_ids: list[str]) -> None:
        self.aborted += request_ids


class RecordedEngine(MeteredAsyncLLM):
    """From `generate` to the output handler it is vLLM's (and ours)."""

    def __init__(self) -> None:  # not super's, which starts an engine
        self.engine_core = RecordedCore()
        self.output_processor = OutputProcessor(byte_tokenizer(), log_stats=True)
        self.output_handler = None
        self.log_stats, self.log_requests = True, False
        self.logger_manager: Any = None
        self.model_config = SimpleNamespace(max_model_len=100_000)
        self.renderer = SimpleNamespace(mm_processor_cache=None, stat_mm_cache=lambda: None)
        self._clock_s = 1.0

    def shutdown(self, timeout: float | None = None) -> None:
        pass

    async def add_request(
        self, request_id: str, prompt: Any, params: SamplingParams, **_: Any
    ) -> RequestOutputCollector:
        request = EngineCoreRequest(
            request_id=internal_id(request_id),
            prompt_token_ids=prompt["prompt_token_ids"],
            mm_features=None,
            sampling_params=params,
            pooling_params=None,
            arrival_time=0.0,
            lora_request=None,
            cache_salt=None,
            data_parallel_rank=None,
            external_req_id=request_id,
        )
        self._run_output_handler()
        queue = RequestOutputCollector(params.output_kind, request.request_id)
        self.output_processor.add_request(request, "the prompt", None, 0, queue)
        return queue

    async def until_asked(self, request_id: str) -> None:
        await until(lambda: self.output_processor.has_request(internal_id(request_id)))

    async def until_aborted(self, request_id: str) -> None:
        await until(lambda: internal_id(request_id) in self.engine_core.aborted)

    async def step(self, pieces: dict[str, Piece], turns: int = TURNS) -> None:
        """What the engine says in one step, by request; then so many turns of the event loop."""
        outputs = [piece.output(internal_id(name)) for name, piece in pieces.items()]
        self._clock_s += 0.5
        self.engine_core.steps.put_nowait(
            EngineCoreOutputs(outputs=outputs, timestamp=self._clock_s)
        )
        for _ in range(turns):
            await asyncio.sleep(0)


async def until(has_happened: Callable[[], bool]) -> None:
    while not has_happened():  # noqa: ASYNC110 (vLLM has no event for it)
        await asyncio.sleep(0.001)


def internal_id(request_id: str) -> str:
    return f"{request_id}-internal"
