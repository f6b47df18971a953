"""The middle of a stream: stands between the engine's outputs and vLLM's stream generator."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextvars import ContextVar

from pydantic_core import to_json as encode
from vllm.outputs import CompletionOutput, RequestOutput

Write = Callable[[bytes], Awaitable[None]]
Outputs = AsyncGenerator[RequestOutput, None]

# What follows the text in a chunk of which nothing else varies.
PLAIN_END = b'},"logprobs":null,"finish_reason":null,"token_ids":null}]}\n\n'


class StreamMiddle:
    """Given to vLLM's generator in place of the engine's outputs. It hands on the first output, the
    last, and all that are unusual; the others it writes itself, and tells vLLM's generator of their
    tokens with the next output that it hands on, so that usage is counted where it always is.

    What vLLM's generator yields is given to `add` and kept until it asks for another output: only
    then does anybody wait, so that parts which belong together are written together. Nobody waits
    after the last output; what ends the stream is left for `taken`.
    """

    def __init__(self, write: Write) -> None:
        self._write = write
        self._outputs: Outputs | None = None
        self._pattern: tuple[bytes, bytes] | None = None
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
            self._learn(self._held[-1])
            await self._write(self.taken())
        async for output in self._outputs:
            completion = output.outputs[0] if len(output.outputs) == 1 else None
            if self._pattern is None or completion is None or not is_only_text(completion):
                return self._hand_on(output, completion)
            self._written_tokens.extend(completion.token_ids)
            before, after = self._pattern
            await self._write(before + encode(completion.text) + after)
        raise StopAsyncIteration

    def _learn(self, part: bytes) -> None:
        """The pattern, from a part that carries the text which was handed on before it."""
        if self._pattern is None and self._handed_text:
            text = b'"delta":{"content":%s' % encode(self._handed_text)
            before, found, after = part.partition(text)
            if found and after == PLAIN_END:
                self._pattern = before + b'"delta":{"content":', after

    def _hand_on(self, output: RequestOutput, completion: CompletionOutput | None) -> RequestOutput:
        self._is_finished = output.finished
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
    return bool(completion.text) and completion.finish_reason is None and not completion.logprobs


current_middle: ContextVar[StreamMiddle | None] = ContextVar("current_middle", default=None)
