"""Answers that are not streamed: vLLM's handler makes them, FastAPI's route around it is left out.

What the body says is for vLLM's request model to judge; where that refuses, or the answer is to be
a stream, the request takes the route that it would have taken without this.
"""

import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import BaseModel, ValidationError
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.exceptions import VLLMClientError

from app.core.client_connection import connection_of
from app.core.parsed_body import parsed_body
from app.engine.fast_path.asgi import App, Receive, Scope, Send
from app.engine.fast_path.direct_chats import DirectChats
from app.engine.fast_path.fast_route import direct_answer, raw_request
from app.engine.fast_path.leaving_client import unless_client_leaves
from app.engine.fast_path.plain_chat_request import PlainChatRequests
from app.engine.fast_path.plain_chats import WordedAnswer

# A float may be worded in more than one way; what may hold one is worded as vLLM's route does it.
_MAY_HOLD_FLOATS = ("prompt_logprobs", "kv_transfer_params", "ec_transfer_params", "metrics")


@dataclass(frozen=True)
class WholeApi:
    """`create` is vLLM's handler of requests of `request_class`; `make` makes those of them that
    need no validation, and None of others.
    """

    request_class: type[BaseModel]
    create: Callable[[Any, Any], Awaitable[Any]]
    make: Callable[[dict[str, Any]], BaseModel | None] = lambda _: None
    direct: DirectChats | None = None


def whole_apis(
    chat: Any, completion: Any, direct: DirectChats | None = None
) -> Iterator[tuple[str, WholeApi]]:
    """By path, for those of vLLM's serving objects that there are."""
    if chat is not None:
        make = PlainChatRequests().make
        create = chat.create_chat_completion
        yield "/v1/chat/completions", WholeApi(ChatCompletionRequest, create, make, direct)
    if completion is not None:
        yield "/v1/completions", WholeApi(CompletionRequest, completion.create_completion)


class WholeAnswers:
    """`stock` is the route without this."""

    def __init__(self, api: WholeApi, stock: App) -> None:
        self._api, self._stock = api, stock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answering = self.begin(scope)
        if answering is None:
            return await self._stock(scope, receive, send)
        await receive()  # the body, which is parsed already
        answer = await unless_client_leaves(answering(), receive, connection_of(scope))
        if answer is not None:
            await respond(answer, send)
        return None

    def begin(self, scope: Scope) -> Callable[[], Awaitable[Any]] | None:
        """What gives the answer; None where it is not to be given here."""
        fields = parsed_body(scope)
        if fields is None or fields.get("stream"):
            return None
        if direct := direct_answer(self._api.direct, fields, scope):
            return direct.whole
        request = self.read(fields)
        return partial(self._api.create, request, raw_request(scope)) if request else None

    def read(self, fields: dict[str, Any]) -> BaseModel | None:
        try:
            return self._api.make(fields) or self._api.request_class.model_validate(fields)
        except (ValidationError, VLLMClientError, ValueError):
            return None


async def respond(answer: BaseModel | WordedAnswer, send: Send) -> None:
    status = answer.error.code if isinstance(answer, ErrorResponse) else 200
    body = answer if isinstance(answer, WordedAnswer) else json_of(answer)
    headers = [
        (b"content-length", str(len(body)).encode()),
        (b"content-type", b"application/json"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def json_of(answer: BaseModel) -> bytes:
    """To the byte as Starlette's JSONResponse words `answer.model_dump()`."""
    if has_no_floats(answer):
        return answer.model_dump_json().encode()
    content = answer.model_dump()
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def has_no_floats(answer: BaseModel) -> bool:
    """Whether it is of texts and whole numbers."""
    return not any(getattr(answer, name, None) for name in _MAY_HOLD_FLOATS) and all(
        choice.logprobs is None and not getattr(choice, "prompt_logprobs", None)
        for choice in getattr(answer, "choices", ())
    )
