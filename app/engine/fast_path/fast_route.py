"""A route for plain streams, in place of FastAPI's around vLLM's handler. Pure ASGI."""

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import SimpleNamespace
from typing import Any

from pydantic import BaseModel, ValidationError
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.entrypoints.openai.completion.serving import OpenAIServingCompletion

from app.core.parsed_body import parsed_body
from app.core.raw_response import raw_response
from app.engine.fast_path.answer_stream import AnswerStream
from app.engine.fast_path.asgi import App, Message, Receive, Scope, Send
from app.engine.fast_path.direct_answer import DirectAnswer
from app.engine.fast_path.direct_chats import DirectChats
from app.engine.fast_path.direct_streams import DirectStreams
from app.engine.fast_path.plain_chat_request import PlainChatRequests
from app.engine.fast_path.plain_requests import is_plain_chat, is_plain_completion
from app.engine.fast_path.stream_middle import StreamMiddle
from app.engine.fast_path.wording import CHAT, COMPLETION, Wording


@dataclass(frozen=True)
class PlainApi:
    """An API whose plain requests are served fast; `create` is vLLM's handler of it, `make` makes
    those of its requests that need no validation, and None of others.
    """

    path: str
    request_class: type[BaseModel]
    is_plain: Callable[[Mapping[str, Any]], bool]
    wording: Wording
    create: Callable[[Any, Any], Awaitable[Any]]
    make: Callable[[dict[str, Any]], BaseModel | None] = lambda _: None
    direct: DirectChats | None = None


class Headers(dict[str, str]):
    """A request's headers, found in any case, as vLLM's handlers look for them."""

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)


@dataclass
class RawRequest:
    """What vLLM's handlers read of a Starlette request."""

    headers: Headers
    state: SimpleNamespace = field(default_factory=SimpleNamespace)


class FastRoute:
    """`stock` is the route as it would be without this, and takes whatever is not plain. Without
    `streams` nothing is written past ASGI."""

    def __init__(self, api: PlainApi, streams: DirectStreams | None, stock: App) -> None:
        self._api, self._streams, self._stock = api, streams, stock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        fields = parsed_body(scope)
        if fields is None and not message.get("more_body"):
            fields = parse(message.get("body", b""))
        stream, find_response = AnswerStream(scope, receive, send), partial(raw_response, scope)
        if answer := direct_answer(self._api.direct, fields, scope):
            return await stream.run_direct(answer, find_response)
        request = None if fields is None else self.make_plain(fields)
        if request is None:
            return await self._stock(scope, replay(message, receive), send)
        middle = StreamMiddle(stream.write, self._api.wording, self._streams, find_response)
        return await stream.run(self._api.create(request, raw_request(scope)), middle)

    def make_plain(self, fields: dict[str, Any]) -> BaseModel | None:
        """None where it is not plain, or not valid: then vLLM's own route says what is wrong."""
        try:
            if self._api.is_plain(fields):
                return self._api.make(fields) or self._api.request_class.model_validate(fields)
        except (ValueError, ValidationError, RecursionError):
            pass
        return None


def direct_answer(
    direct: DirectChats | None, fields: Mapping[str, Any] | None, scope: Scope
) -> DirectAnswer | None:
    """Where the request can be given to the engine directly."""
    if direct is None or fields is None:
        return None
    prompt = direct.prepare(fields, scope["headers"])
    return DirectAnswer(direct, prompt) if prompt is not None else None


def parse(body: bytes) -> dict[str, Any] | None:
    """The object in a body that nobody has parsed yet; None where there is none."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def raw_request(scope: Scope) -> RawRequest:
    pairs = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
    return RawRequest(Headers(pairs))


def replay(message: Message, receive: Receive) -> Receive:
    """A `receive` that gives `message` once more."""
    pending = [message]

    async def receive_replayed() -> Message:
        return pending.pop() if pending else await receive()

    return receive_replayed


def plain_apis(
    chat: OpenAIServingChat | None,
    completion: OpenAIServingCompletion | None,
    direct: DirectChats | None = None,
) -> Iterator[PlainApi]:
    """Those that this server words plainly."""
    if chat is not None and can_serve_chat(chat):
        create = chat.create_chat_completion
        wording = chat_wording(chat)
        path, make = "/v1/chat/completions", PlainChatRequests().make
        yield PlainApi(path, ChatCompletionRequest, is_plain_chat, wording, create, make, direct)
    if completion is not None and can_serve_completion(completion):
        create = completion.create_completion
        yield PlainApi(
            "/v1/completions", CompletionRequest, is_plain_completion, COMPLETION, create
        )


def can_serve_completion(serving: Any) -> bool:
    return type(serving) is OpenAIServingCompletion and not serving.enable_force_include_usage


def chat_wording(serving: OpenAIServingChat) -> Wording:
    """A tool parser drops what has no text."""
    return replace(CHAT, has_empty_chunks=serving.parser_cls is None)


def can_serve_chat(serving: Any) -> bool:
    """Whether this server words plain streams plainly: vLLM's own class, no reasoning, a tool
    parser at most, which lets the text of a request without tools pass, nothing forced or logged.
    """
    if type(serving) is not OpenAIServingChat:
        return False
    if serving.enable_force_include_usage or serving.enable_log_outputs:
        return False
    parser = serving.parser_cls
    if parser is None:
        return True
    made = parser(serving.renderer.tokenizer, None, model_config=serving.model_config)
    return made._reasoning_parser is None and not made._engine_based
