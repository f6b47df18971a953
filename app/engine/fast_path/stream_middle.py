"""The middle of a stream: stands between the engine's outputs and vLLM's stream generator."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextvars import ContextVar

from vllm.outputs import CompletionOutput, RequestOutput

from app.core.raw_response import RawResponse
from app.engine.fast_path.direct_stream import DirectStream
from app.engine.fast_path.direct_streams import DirectStreams
from app.engine.fast_path.wording import Pattern, Wording, learn

Write = Callable[[bytes], Awaitable[None]]
Outputs = AsyncGenerator[RequestOutput, None]


class StreamMiddle:
    """Given to vLLM's generator in place of the engine's outputs. It hands on the first output, the
    last, and all that are unusual. The others never get here: as soon as a pattern is known the
    stream is direct, until an output comes that DirectStreams does not take. Where nothing can be
    written past ASGI they are written here. Either way vLLM's generator hears of their tokens with
    the next output that it gets, so that usage is counted where it always is.

    What vLLM's generator yields is given to `add` and kept until it asks for another output: only
    then does anybody wait, so that parts which belong together are written together. Nobody waits
    after the last output; what ends the stream is left for `taken`.
    """

    def __init__(
        self,
        write: Write,
        wording: Wording,
        streams: DirectStreams | None = None,
        find_response: Callable[[], RawResponse | None] = lambda: None,
    ) -> None:
        self._write, self._wording = write, wording
        self._streams, self._find_response = streams, find_response
        self._request_id = ""
        self._outputs: Outputs | None = None
        self._stream: DirectStream | None = None
        self._pattern: Pattern | None = None
        self._handed_text = ""
        self._held: list[bytes] = []
        self._written_tokens: list[int] = []
        self._is_finished = False

    def take(self, outputs: Outputs) -> "StreamMiddle":
        self._outputs = outputs
        return self

    def add(self, part: bytes) -> None:
        """A part of the stream as vLLM words it."""
        self._held.append(part)

    def taken(self) -> bytes:
        """What is held, and holds it no longer."""
        held, self._held = b"".join(self._held), []
        return held

    def __aiter__(self) -> "StreamMiddle":
        return self

    async def __anext__(self) -> RequestOutput:
        if self._outputs is None:
            raise StopAsyncIteration
        if self._held and not self._is_finished:
            if self._pattern is None:
                self._pattern = learn(self._wording, self._held[-1], self._handed_text)
            await self._write(self.taken())
        while True:
            output = await self._next(self._outputs)
            completion = output.outputs[0] if len(output.outputs) == 1 else None
            if self._pattern is None or completion is None or not is_only_text(completion):
                return self._hand_on(output, completion)
            self._written_tokens.extend(completion.token_ids)
            self._held.append(self._pattern.chunk(completion.text))
            await self._write(self.taken())

    async def _next(self, outputs: Outputs) -> RequestOutput:
        """The next output that comes here; others may be written meanwhile without."""
        stream = self._direct_stream()
        if self._streams is None or stream is None:
            return await anext(outputs)
        self._streams.begin(stream)
        try:
            return await anext(outputs)
        finally:
            self._streams.end(stream)
            self._take_rest(stream)

    def _direct_stream(self) -> DirectStream | None:
        """Made once there is a pattern, and the response has begun."""
        if self._stream is None and self._streams is not None and self._pattern is not None:
            response = self._find_response()
            self._stream = self._streams.open(self._request_id, self._pattern, response)
            if self._stream is None:
                self._streams = None
        return self._stream

    def _take_rest(self, stream: DirectStream) -> None:
        """What came directly and is not written stands before whatever comes next."""
        rest, token_ids = stream.take_rest()
        self._written_tokens += token_ids
        if rest is not None and self._pattern is not None:
            self._held.append(self._pattern.chunk(rest))

    def _hand_on(self, output: RequestOutput, completion: CompletionOutput | None) -> RequestOutput:
        self._is_finished = output.finished
        self._request_id = output.request_id
        if completion is not None:
            self._handed_text = completion.text
            if self._written_tokens:
                completion.token_ids = [*self._written_tokens, *completion.token_ids]
                self._written_tokens = []
        return output

    async def aclose(self) -> None:
        """Closes the engine's outputs, which aborts a request that still runs."""
        if self._outputs is not None:
            await self._outputs.aclose()


def is_only_text(completion: CompletionOutput) -> bool:
    return completion.finish_reason is None and not completion.logprobs


current_middle: ContextVar[StreamMiddle | None] = ContextVar("current_middle", default=None)
