"""Takes the outputs of direct streams from the engine's and writes them, all of a step together.

Stands before vLLM's output processor. An output of a direct stream that is nothing but text is
detokenized here and goes to the stream's connection. The processor gets all others: of requests
that are not direct, the last of each stream, and whatever is unusual. Writing waits for the end of
the event loop's turn: where more steps have come by then, they are taken first and texts merge.
"""

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from time import perf_counter
from typing import Any

from vllm.v1.engine import EngineCoreOutput
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.metrics.stats import IterationStats

from app.core.histogram_counts import observe_times
from app.core.meter import Meter, current_meter
from app.core.raw_response import RawResponse
from app.engine.fast_path.direct_stream import DirectStream, can_be_direct
from app.engine.fast_path.step_tokens import StepTokens, find_token_gaps
from app.engine.fast_path.token_texts import KnownTexts
from app.engine.fast_path.whole_tokens import WholeTokens, can_be_whole
from app.engine.fast_path.wording import Pattern

logger = logging.getLogger("gateway.fast_path")


class DirectStreams:
    """Of one engine. Everything happens on the event loop, as in the engine's client."""

    def __init__(self, client: AsyncLLM) -> None:
        self._processor = client.output_processor
        self._process = self._processor.process_outputs
        self._processor.process_outputs = self.process_outputs
        self._token_gaps = find_token_gaps(client)
        self._texts = KnownTexts(self._processor.tokenizer)
        self._streams: dict[str, DirectStream | WholeTokens] = {}
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
        self._texts.share_with(state.detokenizer)
        return DirectStream(state, pattern, response, current_meter.get() or Meter())

    def open_whole(self, internal_id: str) -> WholeTokens | None:
        """As `open`, for an answer in one piece, by the id that the engine got."""
        state = self._processor.request_states.get(internal_id)
        return WholeTokens(state) if state is not None and can_be_whole(state) else None

    def share_texts(self, internal_id: str) -> None:
        """With a request that the engine has just got."""
        state = self._processor.request_states[internal_id]
        self._texts.share_with(state.detokenizer, state.prompt_token_ids)

    def begin(self, stream: DirectStream | WholeTokens) -> None:
        """Take its outputs from now on; not while one still waits for the stream's generator."""
        state = stream.state
        if state.queue.output is None and state.request_id in self._processor.request_states:
            stream.begin()
            self._streams[state.request_id] = stream

    def end(self, stream: DirectStream | WholeTokens) -> None:
        """Its outputs are the processor's again."""
        if self._streams.pop(stream.state.request_id, None) is not None:
            stream.end()

    def process_outputs(
        self,
        outputs: Sequence[EngineCoreOutput],
        timestamp: float | None = None,
        stats: IterationStats | None = None,
        weight_version: str | None = None,
    ) -> Any:
        """In place of the processor's. Weight versions are for an API that we do not serve."""
        streams, others, going_on = self._streams, [], []
        tokens = StepTokens(timestamp) if stats is not None and timestamp is not None else None
        for output in outputs:
            stream = streams.get(output.request_id)
            if stream is None:
                others.append(output)
                continue
            try:
                if not self._take(stream, output, tokens):
                    self.end(stream)
                    others.append(output)
                    if stream.is_whole:
                        going_on.append(stream)
            except Exception as error:  # noqa: BLE001 (the other streams go on)
                self._fail(stream, error)
        if stats is not None and tokens is not None:
            tokens.add_to(stats, self._token_gaps)
        if self._unwritten and not self._is_flush_due:
            self._is_flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)
        processed = self._process(others, timestamp, stats, weight_version)
        for stream in going_on:
            self.begin(stream)
        return processed

    def _take(self, stream: Any, output: EngineCoreOutput, tokens: StepTokens | None) -> bool:
        num_new = stream.take(output.new_token_ids) if is_only_tokens(output) else None
        if num_new is None:
            return False
        if not stream.is_unwritten and stream.text is not None:
            stream.is_unwritten = True
            self._unwritten.append(stream)
        if stream.lane is not None:
            stream.lane.charge(num_new)
        if tokens is not None:
            tokens.note(len(output.new_token_ids), stream.last_token_s)
            stream.last_token_s = tokens.timestamp
        return True

    def _flush(self) -> None:
        self._is_flush_due = False
        streams, self._unwritten = self._unwritten, []
        before_s: defaultdict[Any, list[float]] = defaultdict(list)  # by histogram of the gaps
        now = perf_counter()
        for stream in streams:
            if stream.text is None:  # it ended meanwhile; its generator has the rest
                stream.is_unwritten = False
                continue
            if stream.response.is_blocked:
                self._unwritten.append(stream)  # until it reads, its texts merge
                continue
            stream.is_unwritten = False
            try:
                stream.write()
            except Exception as error:  # noqa: BLE001 (the other streams go on)
                self._fail(stream, error)
            clock = stream.clock
            before_s[clock.gaps].append(clock.last_event_s)
            clock.last_event_s = now
        for histogram, times in before_s.items():
            if histogram is not None:
                for time_s, count in Counter(times).items():
                    observe_times(histogram, now - time_s, count)

    def _fail(self, stream: DirectStream | WholeTokens, error: Exception) -> None:
        """A fault in here costs the one stream: its generator gets the error, and words it."""
        logger.error("a direct stream failed", exc_info=error)
        self.end(stream)
        stream.state.queue.put(error)


def is_only_tokens(output: EngineCoreOutput) -> bool:
    """Whether it has nothing in the fields that could say more."""
    return (
        output.finish_reason is None
        and output.events is None
        and output.new_logprobs is None
        and output.new_sampling_mask is None
        and output.routed_experts is None
        and output.pooling_output is None
        and not output.num_nans_in_logits
    )
