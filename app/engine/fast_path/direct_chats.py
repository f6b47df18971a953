"""Plain chats with short prompts, taken to the engine directly.

vLLM's handler, renderer, input processor and client work out for each request what is the same for
all of them. Here that is known; what depends on the request is done as they do it, mostly by their
own classes. Whatever is unusual takes vLLM's way, which also says what is wrong with a request.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import time
from typing import Any

from vllm.entrypoints.serve.utils.api_utils import get_max_tokens
from vllm.sampling_params import SamplingParams
from vllm.utils import random_uuid
from vllm.v1.engine.async_llm import AsyncLLM

from app.engine.fast_path.direct_streams import DirectStreams
from app.engine.fast_path.engine_inlet import EngineInlet, has_plain_inlet
from app.engine.fast_path.known_params import KnownParams
from app.engine.fast_path.plain_chat_request import needs_no_validation
from app.engine.fast_path.plain_chats import PlainChats
from app.engine.fast_path.short_prompts import ShortPrompts, is_short_chat, token_ids_of

_ID = b"x-request-id"
# Headers with which vLLM's handler would do something else. The door lets none of a client's pass;
# where requests are traced, it adds the last two.
_UNUSUAL = frozenset(
    {b"x-data-parallel-rank", b"x-session-id", b"x-vllm-priority", b"traceparent", b"tracestate"}
)


@dataclass(slots=True)
class ChatPrompt:
    """A plain chat that the engine can be given. `fields`: its body; `room`: the tokens that the
    context has left for the answer."""

    fields: Mapping[str, Any]
    request_id: str
    text: str
    token_ids: list[int]
    params: SamplingParams
    room: int
    arrival_s: float


class DirectChats:
    """Of one server: `chats` knows how it words and renders plain chats."""

    def __init__(
        self,
        client: AsyncLLM,
        chats: PlainChats,
        prompts: ShortPrompts,
        streams: DirectStreams,
        tasks: Sequence[str],
    ) -> None:
        self.client, self.plain, self.streams = client, chats, streams
        self.inlet = EngineInlet(client)
        serving = chats.serving
        self.raise_if_error = serving._raise_if_error
        self._serving, self._tokenizer = serving, prompts.tokenizer
        self._model = serving.models.model_name(None)
        self._params = KnownParams(serving.default_sampling_params, client.input_processor, tasks)
        self._longest = client.model_config.max_model_len
        self._most_chars = self._longest * serving.renderer.tokenizer.max_chars_per_token

    def prepare(
        self, fields: Mapping[str, Any], headers: Sequence[tuple[bytes, bytes]]
    ) -> ChatPrompt | None:
        """None where vLLM has to be asked."""
        if not needs_no_validation(fields) or not self._serves(fields.get("model")):
            return None
        request_id = find_id(headers)
        arrival_s = time()
        text = self._rendered(fields["messages"])
        if request_id is None or text is None or self.client.errored:
            return None
        token_ids = token_ids_of(self._tokenizer, text, self.plain.add_special_tokens)
        room = self._longest - len(token_ids)
        max_tokens = self._max_tokens(fields, len(token_ids), room)
        params = self._params.of(fields, max_tokens) if max_tokens > 0 else None
        if params is None:
            return None
        return ChatPrompt(fields, request_id, text, token_ids, params, room, arrival_s)

    def _serves(self, model: Any) -> bool:
        models = self._serving.models
        if models.lora_requests:
            return False
        return not model or model == self._model or bool(models.is_base_model(model))

    def _rendered(self, messages: Any) -> str | None:
        text = self.plain.rendered(messages) if is_short_chat(messages) else None
        return text if text is not None and len(text) <= self._most_chars else None

    def _max_tokens(self, fields: Mapping[str, Any], num_prompt: int, room: int) -> int:
        """0 where the request does not fit into the context."""
        asked = fields.get("max_completion_tokens")
        if asked is None:
            asked = fields.get("max_tokens")
        if not num_prompt or room < (1 if asked is None else asked):
            return 0
        serving = self._serving
        most: int = get_max_tokens(
            self._longest,
            asked,
            num_prompt,
            serving.default_sampling_params,
            serving.override_max_tokens,
        )
        return max(0, most)


def make_direct_chats(
    client: AsyncLLM,
    chats: PlainChats,
    prompts: ShortPrompts | None,
    streams: DirectStreams,
    tasks: Sequence[str],
) -> DirectChats | None:
    """None where the server does more for a plain chat than is done here."""
    if prompts is None or prompts.tokenizer is None:
        return None
    if not chats.renders or not chats.are_all_plain or not has_plain_inlet(client):
        return None
    return DirectChats(client, chats, prompts, streams, tasks)


def find_id(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    """The request's, as vLLM's handler has it; None where there are unusual headers."""
    given = None
    for name, value in headers:
        if name == _ID:
            given = value.decode("latin-1")
        elif name in _UNUSUAL:
            return None
    return f"chatcmpl-{random_uuid() if given is None else given}"
