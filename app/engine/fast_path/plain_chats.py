"""What vLLM's chat handler works out for every request anew, and is the same for all plain ones."""

import time
from collections.abc import AsyncIterator
from typing import Any

from pydantic_core import to_json
from vllm.entrypoints.openai.chat_completion.protocol import (
    ChatCompletionResponse,
    ChatCompletionResponseChoice,
)
from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
from vllm.entrypoints.serve.engine.protocol import UsageInfo
from vllm.outputs import RequestOutput

from app.engine.fast_path.plain_chat_request import PlainChatRequest, PlainChatRequests
from app.engine.fast_path.plain_streams import PlainStreams
from app.engine.fast_path.plain_template import PlainTemplate, plain_template

_PLAIN_ENDS = frozenset({"stop", "length"})
_NUMBERS = {"created": 1111111111, "prompt": 2222222222, "total": 3333333333, "new": 4444444444}
_TEXTS = ("id", "content", "finish_reason", "stop_reason")


class WordedAnswer(bytes):
    """The body of an answer, complete."""


class PlainChats:
    """Put before the methods of `serving` by `install`; all but PlainChatRequests pass through.
    Only for a server that `can_serve` says yes to.

    Without reasoning and with nothing but a tool parser, vLLM takes an answer's text as it is where
    a request has no tools, so no parser is made to be asked.
    """

    def __init__(self, serving: OpenAIServingChat) -> None:
        self.serving = serving
        self._arguments_of = serving._effective_chat_template_kwargs
        self._make_parser = serving._make_parser
        self._answer = serving.chat_completion_full_generator
        sample: Any = PlainChatRequests().make({"messages": [{"role": "user", "content": "x"}]})
        self.add_special_tokens: bool = sample.add_special_tokens
        self._arguments = dict(self._arguments_of(sample))
        self._template, self._given = self._find_template(sample)
        self._pattern = learn_pattern(serving)
        self.are_all_plain = has_plain_answers(serving)
        self.streams = PlainStreams(serving)

    def install(self) -> None:
        self.serving._effective_chat_template_kwargs = self.arguments_of
        self.serving._make_parser = self.make_parser
        if self.are_all_plain:
            self.serving.chat_completion_full_generator = self.answer
            self.streams.install()
        if self._template is not None:
            self._template.learned.learn_usual()

    @property
    def renders(self) -> bool:
        """Whether plain messages are rendered here."""
        return self._template is not None and self.serving.renderer.mm_processor is None

    def _find_template(self, sample: Any) -> tuple[PlainTemplate | None, dict[str, Any]]:
        """The template, and the arguments with which vLLM has it rendered."""
        serving = self.serving
        params = sample.build_chat_params(
            serving.chat_template, serving.chat_template_content_format
        ).with_defaults({**serving.default_chat_template_kwargs, "tokenize": False})
        return plain_template(serving.renderer, params), params.chat_template_kwargs

    def rendered(self, messages: Any) -> str | None:
        """The prompt of a plain chat; None where vLLM has to render it."""
        return self._template.render(messages, self._given) if self._template else None

    def arguments_of(self, request: Any) -> dict[str, Any]:
        if type(request) is PlainChatRequest:
            return dict(self._arguments)
        arguments: dict[str, Any] = self._arguments_of(request)
        return arguments

    def make_parser(self, request: Any, *rest: Any) -> Any:
        if type(request) is PlainChatRequest and (self.are_all_plain or not request.stream):
            return None
        return self._make_parser(request, *rest)

    async def answer(
        self,
        request: Any,
        outputs: AsyncIterator[RequestOutput],
        request_id: str,
        *rest: Any,
        **options: Any,
    ) -> Any:
        if type(request) is not PlainChatRequest:
            return await self._answer(request, outputs, request_id, *rest, **options)
        created = int(time.time())
        final = None
        async for output in outputs:
            final = output
        if final is None or not tells_one_text(final):
            return await self._answer(request, once(final), request_id, *rest, **options)
        return self.word(final, request_id, created)

    def word(self, final: RequestOutput, request_id: str, created: int) -> WordedAnswer:
        completion = final.outputs[0]
        num_prompt, num_new = len(final.prompt_token_ids or ()), len(completion.token_ids)
        return WordedAnswer(
            self._pattern
            % {
                b"id": to_json(request_id),
                b"created": created,
                b"content": to_json(completion.text),
                b"finish_reason": to_json(completion.finish_reason),
                b"stop_reason": to_json(completion.stop_reason),
                b"prompt": num_prompt,
                b"total": num_prompt + num_new,
                b"new": num_new,
            }
        )


async def once(output: RequestOutput | None) -> AsyncIterator[RequestOutput]:
    if output is not None:
        yield output


def has_plain_answers(serving: OpenAIServingChat) -> bool:
    """Whether this server says nothing in an answer that a pattern has no place for."""
    return not (
        serving.enable_prompt_tokens_details
        or serving.enable_per_request_metrics
        or serving._include_reasoning_tokens_details
        or serving.engine_client.vllm_config.speculative_config
    )


def tells_one_text(final: RequestOutput) -> bool:
    """Whether nothing is told of it but one text, how it ended, and how many tokens there were."""
    if len(final.outputs) != 1:
        return False
    completion = final.outputs[0]
    told = (
        *(final.prompt_logprobs, final.kv_transfer_params, final.ec_transfer_params),
        *(final.encoder_prompt_token_ids, completion.logprobs, completion.routed_experts),
        completion.spec_decode_metrics,
    )
    return (
        completion.finish_reason in _PLAIN_ENDS
        and final.prompt_token_ids is not None
        and not any(each is not None for each in told)
    )


def learn_pattern(serving: OpenAIServingChat) -> bytes:
    """A plain answer as vLLM's model words it, with a place for each value that varies."""
    marks = {name: f"\x01{name}" for name in _TEXTS}
    message = serving._create_chat_message(
        role=serving.response_role, reasoning=None, content=marks["content"]
    )
    answer = ChatCompletionResponse(
        id=marks["id"],
        created=_NUMBERS["created"],
        model=serving.models.model_name(None),
        choices=[
            ChatCompletionResponseChoice(
                index=0,
                message=message,
                finish_reason=marks["finish_reason"],
                stop_reason=marks["stop_reason"],
            )
        ],
        usage=UsageInfo(
            prompt_tokens=_NUMBERS["prompt"],
            completion_tokens=_NUMBERS["new"],
            total_tokens=_NUMBERS["total"],
        ),
        system_fingerprint=serving.system_fingerprint,
    )
    pattern: bytes = answer.model_dump_json().encode().replace(b"%", b"%%")
    for name, mark in marks.items():
        pattern = pattern.replace(to_json(mark), b"%%(%s)b" % name.encode())
    for name, number in _NUMBERS.items():
        pattern = pattern.replace(b"%d" % number, b"%%(%s)d" % name.encode())
    return pattern
