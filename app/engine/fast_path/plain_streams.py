"""The events of a plain chat's stream, by patterns made once of what vLLM's models say.

vLLM makes a dozen objects for the first events of a stream and its last. All that differs between
two streams are an id, a time, texts, numbers and how it ended.
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json
from vllm.entrypoints.generate.base.protocol import DeltaMessage
from vllm.entrypoints.openai.chat_completion.protocol import (
    ChatCompletionResponseStreamChoice,
    ChatCompletionStreamResponse,
)
from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
from vllm.entrypoints.serve.engine.protocol import UsageInfo
from vllm.outputs import CompletionOutput, RequestOutput

from app.engine.fast_path.plain_chat_request import PlainChatRequest
from app.engine.fast_path.wording import Pattern

_CREATED, _PROMPT, _NEW, _TOTAL = 1111111111, 2222222222, 4444444444, 3333333333
_NUMBERS = {"created": _CREATED, "prompt": _PROMPT, "new": _NEW, "total": _TOTAL}
_TEXTS = {name: f"\x01{name}" for name in ("id", "content", "finish_reason", "stop_reason")}
DONE = "data: [DONE]\n\n"


@dataclass(frozen=True)
class Patterns:
    """`end` and `textless_end`, by whether usage follows: then that has the fingerprint."""

    opening: str
    text: str
    end: tuple[str, str]
    textless_end: tuple[str, str]
    usage: str


class PlainStreams:
    """Put before the stream generator of `serving` by `install`; all but PlainChatRequests pass
    through. Only for a server that `can_serve` and `has_plain_answers` say yes to."""

    def __init__(self, serving: OpenAIServingChat) -> None:
        self._serving = serving
        self._stock = serving.chat_completion_stream_generator
        self._patterns = learn_patterns(serving)
        self.has_empty_chunks = serving.parser_cls is None

    def install(self) -> None:
        self._serving.chat_completion_stream_generator = self.stream

    def stream(
        self,
        request: Any,
        outputs: AsyncIterator[RequestOutput],
        request_id: str,
        *rest: Any,
        **options: Any,
    ) -> AsyncGenerator[str, None]:
        stream: AsyncGenerator[str, None]
        if type(request) is PlainChatRequest:
            stream = self._plain(request, outputs, request_id, rest, options)
        else:
            stream = self._stock(request, outputs, request_id, *rest, **options)
        return stream

    async def _plain(
        self,
        request: PlainChatRequest,
        outputs: AsyncIterator[RequestOutput],
        request_id: str,
        rest: tuple[Any, ...],
        options: dict[str, Any],
    ) -> AsyncGenerator[str, None]:
        usage = request.stream_options
        wording = self.wording(request_id, bool(usage and usage.include_usage))
        is_open = False
        try:
            async for output in outputs:
                if output.prompt_token_ids is not None:
                    num_encoded = len(output.encoder_prompt_token_ids or ())
                    wording.num_prompt = len(output.prompt_token_ids) + num_encoded
                if not is_open:
                    is_open = True
                    yield wording.opening()
                for completion in output.outputs:
                    self._serving._raise_if_error(completion.finish_reason, request_id)
                    if event := wording.event_of(completion):
                        yield event
            if wording.tells_usage:
                yield wording.usage()
        except Exception as error:  # noqa: BLE001 (vLLM words it)
            async for part in self.error_events(error, request, request_id, *rest, **options):
                yield part
        else:
            yield DONE

    def wording(self, request_id: str, tells_usage: bool) -> "StreamWording":
        """Of a stream that begins now."""
        return StreamWording(self._patterns, request_id, tells_usage, self.has_empty_chunks)

    def error_events(
        self, error: Exception, request: PlainChatRequest, *rest: Any, **options: Any
    ) -> AsyncGenerator[str, None]:
        """What vLLM says in a stream of its own that fails so; with its `[DONE]`."""
        events: AsyncGenerator[str, None] = self._stock(request, failing(error), *rest, **options)
        return events


class StreamWording:
    """Of one stream; `num_prompt` tokens, once that is known, and `num_new` so far."""

    def __init__(
        self, patterns: Patterns, request_id: str, tells_usage: bool, has_empty_chunks: bool
    ) -> None:
        self._patterns, self.tells_usage = patterns, tells_usage
        self._has_empty_chunks = has_empty_chunks
        self._about = {"id": as_json(request_id), "created": int(time.time())}
        self._is_over = False
        self.num_prompt = self.num_new = 0

    def opening(self) -> str:
        return self._patterns.opening % self._about

    def text_pattern(self) -> Pattern:
        """Of the chunks that only bring text."""
        before, after = (part % self._about for part in self._patterns.text.split("%(content)s"))
        return Pattern(before.encode(), after.encode(), self._has_empty_chunks)

    def event_of(self, completion: CompletionOutput) -> str:
        """Empty where vLLM would say nothing."""
        text, about = completion.text, self._about
        is_nothing = not text and not completion.token_ids and not self.num_new
        if self._is_over or is_nothing:
            return ""
        self.num_new += len(completion.token_ids)
        is_shown = bool(text) or self._has_empty_chunks
        if completion.finish_reason is None:
            return self._patterns.text % {**about, "content": as_json(text)} if is_shown else ""
        self._is_over = True
        ends = self._patterns.end if is_shown else self._patterns.textless_end
        return ends[self.tells_usage] % {
            **about,
            "content": as_json(text),
            "finish_reason": as_json(completion.finish_reason),
            "stop_reason": as_json(completion.stop_reason),
        }

    def usage(self) -> str:
        return self._patterns.usage % {
            **self._about,
            "prompt": self.num_prompt,
            "new": self.num_new,
            "total": self.num_prompt + self.num_new,
        }


async def failing(error: Exception) -> AsyncIterator[RequestOutput]:
    """Outputs of which the first is `error`."""
    raise error
    yield


def as_json(value: Any) -> str:
    return to_json(value).decode()


def learn_patterns(serving: OpenAIServingChat) -> Patterns:
    """What vLLM's stream generator makes of each kind of event."""
    fingerprint = serving.system_fingerprint
    ends = {"finish_reason": _TEXTS["finish_reason"], "stop_reason": _TEXTS["stop_reason"]}
    with_text = DeltaMessage(content=_TEXTS["content"])
    stamped = {} if fingerprint is None else {"system_fingerprint": fingerprint}
    usage = UsageInfo(prompt_tokens=_PROMPT, completion_tokens=_NEW, total_tokens=_TOTAL)
    usage.prompt_tokens_details = None
    return Patterns(
        pattern_of(
            serving,
            DeltaMessage(role=serving.response_role, content=""),
            of_chunk={"prompt_token_ids": None, "prompt_text": None},
        ),
        pattern_of(serving, with_text, {"token_ids": None}),
        (
            pattern_of(serving, with_text, {**ends, "token_ids": None}, stamped),
            pattern_of(serving, with_text, {**ends, "token_ids": None}),
        ),
        (
            pattern_of(serving, DeltaMessage(), {**ends, "token_ids": None}, stamped),
            pattern_of(serving, DeltaMessage(), {**ends, "token_ids": None}),
        ),
        pattern_of(serving, None, {}, {"usage": usage, **stamped}, exclude_none=True),
    )


def pattern_of(
    serving: OpenAIServingChat,
    delta: DeltaMessage | None,
    of_choice: dict[str, Any] | None = None,
    of_chunk: dict[str, Any] | None = None,
    *,
    exclude_none: bool = False,
) -> str:
    """An event with a place for each value that varies; without `delta` it has no choice."""
    fields: dict[str, Any] = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
    choices = [ChatCompletionResponseStreamChoice(**fields | (of_choice or {}))] if delta else []
    chunk = ChatCompletionStreamResponse(
        id=_TEXTS["id"],
        object="chat.completion.chunk",
        created=_CREATED,
        choices=choices,
        model=serving.models.model_name(None),
    )
    for name, value in (of_chunk or {}).items():
        setattr(chunk, name, value)
    text: str = chunk.model_dump_json(exclude_unset=True, exclude_none=exclude_none)
    text = text.replace("%", "%%")
    for name, mark in _TEXTS.items():
        text = text.replace(as_json(mark), f"%({name})s")
    for name, number in _NUMBERS.items():
        text = text.replace(str(number), f"%({name})d")
    return f"data: {text}\n\n"
