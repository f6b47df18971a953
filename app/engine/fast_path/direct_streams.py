"""Takes the outputs of direct streams from the engine's and writes them, all of a step together.

Stands before vLLM's output processor. An output of a direct stream that is nothing but text is
detokenized here and goes to the stream's connection. The processor gets all others: of requests
that are not direct, the last of each stream, and whatever is unusual. Writing waits for the end of
the event loop's turn: where more steps have come by then, they are taken first and texts merge.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from operator import attrgetter
from time import perf_counter
from typing import Any

from vllm.v1.engine import EngineCoreOutput
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.output_processor import RequestState
from vllm.v1.metrics.loggers import PrometheusStatLogger
from vllm.v1.metrics.stats import IterationStats

from app.core.histogram_counts import observe_times
from app.core.meter import Meter, current_meter
from app.core.raw_response import RawResponse
from app.engine.fast_path.direct_stream import DirectStream, can_be_direct
from app.engine.fast_path.wording import Pattern

logger = logging.getLogger("gateway.fast_path")

# What an output has, when it is nothing but text, in the fields that could say more.
_FIELDS = attrgetter(
    *("finish_reason", "events", "new_logprobs", "new_sampling_mask", "routed_experts"),
    *("pooling_output", "num_nans_in_logits"),
)
_NOTHING_MORE = (None, None, None, None, None, None, 0)


class DirectStreams:
    """Of one engine. Everything happens on the event loop, as in the engine's client."""

    def __init__(self, client: AsyncLLM) -> None:
        self._processor = client.output_processor
        self._process = self._processor.process_outputs
        self._processor.process_outputs = self.process_outputs
        self._token_gaps = find_token_gaps(client)
        self._streams: dict[str, DirectStream] = {}
        self._unwritten: list[DirectStream] = []
        self._is_flush_due = False

    def open(
        self, request_id: str, pattern: Pattern, response: RawResponse | None
    ) -> DirectStream | None:
        """For a request in the engine, by the id that `generate` got. None where it has to do
        without."""
        ids = self._processor.external_req_ids.get(request_id, ())
        state = self._processor.request_states.get(ids[0]) if len(ids) == 1 else None
        if state is None or response is None or not can_be_direct(state):
            return None
        return DirectStream(state, pattern, response, current_meter.get() or Meter())

    def begin(self, stream: DirectStream) -> None:
        """Take its outputs from now on; not while one still waits for the stream's generator."""
        state = stream.state
        if state.queue.output is None and state.request_id in self._processor.request_states:
            self._streams[state.request_id] = stream

    def end(self, stream: DirectStream) -> None:
        """Its outputs are the processor's again."""
        self._streams.pop(stream.state.request_id, None)

    def process_outputs(
        self,
        outputs: Sequence[EngineCoreOutput],
        timestamp: float | None = None,
        stats: IterationStats | None = None,
        weight_version: str | None = None,
    ) -> Any:
        """In place of the processor's. Weight versions are for an API that we do not serve."""
        others: list[EngineCoreOutput] = []
        gaps: Counter[float] = Counter()
        for output in outputs:
            stream = self._streams.get(output.request_id)
            if stream is None:
                others.append(output)
                continue
            try:
                if self._take(stream, output):
                    note_tokens(stream.state, output, timestamp, stats, gaps)
                else:
                    self.end(stream)
                    others.append(output)
            except Exception as error:  # noqa: BLE001 (the other streams go on)
                self._fail(stream, error)
        if stats is not None:
            self._note_gaps(gaps, stats)
        if self._unwritten and not self._is_flush_due:
            self._is_flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)
        return self._process(others, timestamp, stats, weight_version)

    def _take(self, stream: DirectStream, output: EngineCoreOutput) -> bool:
        if _FIELDS(output) != _NOTHING_MORE or not stream.take(output.new_token_ids):
            return False
        if stream.texts and not stream.is_unwritten:
            stream.is_unwritten = True
            self._unwritten.append(stream)
        return True

    def _flush(self) -> None:
        self._is_flush_due = False
        streams, self._unwritten = self._unwritten, []
        gaps: Counter[tuple[Any, float]] = Counter()
        now = perf_counter()
        for stream in streams:
            if stream.texts and stream.response.is_blocked:
                self._unwritten.append(stream)  # until it reads, its texts merge
                continue
            stream.is_unwritten = False
            if not stream.texts:  # it ended meanwhile; its generator has the rest
                continue
            try:
                stream.write()
            except Exception as error:  # noqa: BLE001 (the other streams go on)
                self._fail(stream, error)
            clock = stream.meter.clock
            gaps[clock.gaps, now - clock.last_event_s] += 1
            clock.last_event_s = now
        for (histogram, gap), count in gaps.items():
            if histogram is not None:
                observe_times(histogram, gap, count)

    def _fail(self, stream: DirectStream, error: Exception) -> None:
        """A fault in here costs the one stream: its generator gets the error, and words it."""
        logger.error("a direct stream failed", exc_info=error)
        self.end(stream)
        stream.state.queue.put(error)

    def _note_gaps(self, gaps: "Counter[float]", stats: IterationStats) -> None:
        for gap, count in gaps.items():
            if self._token_gaps is None:
                stats.inter_token_latencies_iter += [gap] * count
            else:
                observe_times(self._token_gaps, gap, count)


def note_tokens(
    state: RequestState,
    output: EngineCoreOutput,
    timestamp: float | None,
    stats: IterationStats | None,
    gaps: "Counter[float]",
) -> None:
    """What vLLM's IterationStats would note of an output that is not the first."""
    if stats is None or timestamp is None or state.stats is None:
        return
    num_tokens = len(output.new_token_ids)
    stats.num_generation_tokens += num_tokens
    state.stats.num_generation_tokens += num_tokens
    gaps[timestamp - state.stats.last_token_ts] += 1
    state.stats.last_token_ts = timestamp


def find_token_gaps(client: AsyncLLM) -> Any:
    """vLLM's own histogram of the times between tokens, where one serves all of this client."""
    manager = client.logger_manager
    found = [
        histogram
        for each in (manager.stat_loggers if manager is not None else ())
        if isinstance(each, PrometheusStatLogger)
        for histogram in each.histogram_inter_token_latency.values()
    ]
    return found[0] if len(found) == 1 else None
