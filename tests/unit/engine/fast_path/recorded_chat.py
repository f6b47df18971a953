"""vLLM's chat serving object, fed with recorded engine outputs instead of an engine's."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

from vllm.entrypoints.generate.base.protocol import RequestResponseMetadata
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.parser import ParserManager

PROMPT = [1, 2, 3]


@dataclass(frozen=True)
class Piece:
    """One output of the engine."""

    text: str
    num_tokens: int = 1
    finish_reason: str | None = None
    stop_reason: int | str | None = None

    def output(self, first_token: int) -> RequestOutput:
        completion = CompletionOutput(
            index=0,
            text=self.text,
            token_ids=list(range(first_token, first_token + self.num_tokens)),
            cumulative_logprob=None,
            logprobs=None,
            finish_reason=self.finish_reason,
            stop_reason=self.stop_reason,
        )
        return RequestOutput(
            request_id="engine-id",
            prompt=None,
            prompt_token_ids=PROMPT,
            prompt_logprobs=None,
            outputs=[completion],
            finished=self.finish_reason is not None,
        )


@dataclass
class Recording:
    """Outputs, and what happens after the last: the stream ends, `error` comes, or it `hangs`."""

    pieces: Sequence[Piece]
    error: Exception | None = None
    hangs: bool = False
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def play(self) -> AsyncGenerator[RequestOutput, None]:
        try:
            for number, piece in enumerate(self.pieces):
                yield piece.output(10 * number)
                await asyncio.sleep(0)
            if self.error is not None:
                raise self.error
            if self.hangs:
                await asyncio.sleep(3600)
        finally:
            self.closed.set()


class StubTokenizer:
    """What the tool parser asks of a tokenizer when it is made."""

    def get_vocab(self) -> dict[str, int]:
        return {"<|python_tag|>": 5}

    def encode(self, text: str, **_: Any) -> list[int]:
        return [5]


class RecordedChat(OpenAIServingChat):  # type: ignore[misc]
    """`create_chat_completion` is vLLM's from where it has the engine's outputs in hand."""

    system_fingerprint = "fingerprint"
    model_config = None

    def __init__(self, recording: Recording, *, tool_parser: str | None) -> None:
        self.recording = recording
        self.parser_cls = ParserManager.get_parser(
            tool_parser_name=tool_parser,
            reasoning_parser_name="",
            enable_auto_tools=tool_parser is not None,
            model_name="m",
            tokenizer=StubTokenizer(),
        )
        self.response_role = "assistant"
        self.request_logger = None
        self.enable_force_include_usage = self.enable_log_outputs = False
        self.enable_per_request_metrics = self.enable_prompt_tokens_details = False
        self._include_reasoning_tokens_details = False

    async def create_chat_completion(self, request: ChatCompletionRequest, raw: Any = None) -> Any:
        return self.chat_completion_stream_generator(
            request,
            self.recording.play(),
            "chatcmpl-1",
            "a \"model\": {'content'}",
            [],
            StubTokenizer(),
            RequestResponseMetadata(request_id="chatcmpl-1"),
        )
