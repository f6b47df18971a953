"""One plain chat in the engine, from its limits to its answer."""

import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from vllm.entrypoints.generate.base.protocol import RequestResponseMetadata
from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine import EngineCoreRequest
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError
from vllm.v1.engine.output_processor import RequestOutputCollector

from app.core.fair_queue import Place
from app.core.meter import Meter, current_meter
from app.core.raw_response import RawResponse
from app.engine.fast_path.direct_chats import ChatPrompt, DirectChats
from app.engine.fast_path.direct_stream import DirectStream
from app.engine.fast_path.engine_inlet import LastOutput
from app.engine.fast_path.plain_chat_request import PlainChatRequests
from app.engine.fast_path.plain_chats import once, tells_one_text
from app.engine.fast_path.plain_streams import DONE, StreamWording
from app.engine.fast_path.wording import Pattern
from app.engine.metered import count_completion, enter, foresee, leave, note_first

Answer = TypeVar("Answer")
FindResponse = Callable[[], RawResponse | None]


class Write(Protocol):
    async def __call__(self, body: bytes, *, more: bool = True) -> None: ...


class DirectAnswer:
    """What `MeteredAsyncLLM.generate` is to a request, and what vLLM's handler makes of it. Give
    it to `whole` or to `stream`, once."""

    def __init__(self, chats: DirectChats, prompt: ChatPrompt) -> None:
        self._chats, self._prompt = chats, prompt
        self._client, self._meter = chats.client, current_meter.get() or Meter()
        self._need: tuple[int, int, int]
        self._request: EngineCoreRequest
        self._held = b""  # what of a stream has come and is not written

    def reserve(self) -> None:
        """Raises InvalidRequest where the key may not ask for so much."""
        meter, prompt = self._meter, self._prompt
        self._need = foresee(meter, prompt.params, len(prompt.token_ids), prompt.room)
        self._request = EngineCoreRequest(
            request_id=prompt.request_id,
            prompt_token_ids=prompt.token_ids,
            mm_features=None,
            sampling_params=prompt.params,
            pooling_params=None,
            arrival_time=prompt.arrival_s,
            lora_request=None,
            cache_salt=meter.ticket.tenant.cache_salt(None) if meter.ticket else None,
            data_parallel_rank=None,
        )
        self._chats.inlet.name(self._request)

    async def whole(self) -> Any:
        """What vLLM's handler returns, or raises."""
        created = int(time.time())
        self.reserve()
        output = await self._in_engine(self._last_output)
        if tells_one_text(output):
            return self._chats.plain.word(output, self._prompt.request_id, created)
        request, *rest = self._arguments()
        return await self._chats.plain.answer(request, once(output), *rest)

    async def stream(self, write: Write, find_response: FindResponse) -> None:
        """All of a stream that has begun, after `reserve`."""
        usage = self._prompt.fields.get("stream_options")
        wording = self._chats.plain.streams.wording(
            self._prompt.request_id, bool(usage and usage["include_usage"])
        )
        wording.num_prompt = len(self._prompt.token_ids)

        async def write_all(place: Place | None) -> None:
            await self._write_all(wording, write, find_response, place)

        try:
            await self._in_engine(write_all)
        except Exception as error:  # noqa: BLE001 (vLLM words it)
            if self._held:  # an error is only seen where a message begins with it
                await write(self._taken())
            request, *rest = self._arguments()
            events = self._chats.plain.streams.error_events(error, request, *rest)
            self._held = "".join([event async for event in events]).encode()
        await write(self._taken(), more=False)

    async def _in_engine(self, use: Callable[[Place | None], Awaitable[Answer]]) -> Answer:
        """Once there is quota and a place; until then the engine knows nothing of it. However `use`
        fails, and where it is cancelled, the request is aborted in the engine."""
        place = await enter(self._meter, self._need)
        try:
            return await use(place)
        except EngineDeadError:
            raise
        except BaseException:
            await self._client.abort(self._request.request_id, internal=True)
            raise
        finally:
            leave(self._meter, place)

    def _add(self, queue: Any) -> None:
        self._chats.inlet.add(self._request, self._prompt.text, queue)
        self._chats.streams.share_texts(self._request.request_id)

    async def _last_output(self, place: Place | None) -> RequestOutput:
        queue, streams, tokens = LastOutput(), self._chats.streams, None
        with _ENGINE_ERRORS:
            self._add(queue)
            try:
                if tokens := streams.open_whole(self._request.request_id):
                    streams.begin(tokens)
                output = await queue.get()
            finally:
                if tokens:
                    streams.end(tokens)
        note_first(self._meter, output, place)
        count_completion(self._meter, output, None)
        return output

    async def _write_all(
        self, wording: StreamWording, write: Write, find_response: FindResponse, place: Place | None
    ) -> None:
        """The last part is only held."""
        queue = RequestOutputCollector(RequestOutputKind.DELTA, self._request.request_id)
        with _ENGINE_ERRORS:
            self._add(queue)
            output = await next_output(queue)
        note_first(self._meter, output, place)
        self._held = wording.opening().encode()
        pattern, stream = wording.text_pattern(), None
        while True:
            count_completion(self._meter, output, None)
            (completion,) = output.outputs
            self._chats.raise_if_error(completion.finish_reason, self._prompt.request_id)
            self._held += wording.event_of(completion).encode()
            if output.finished:
                break
            await write(self._taken())
            if stream is None:
                response = find_response()
                stream = self._chats.streams.open(self._prompt.request_id, pattern, response)
            with _ENGINE_ERRORS:
                output = await self._next_output(queue, stream, pattern, wording)
        self._held += (wording.usage() + DONE if wording.tells_usage else DONE).encode()

    async def _next_output(
        self,
        queue: RequestOutputCollector,
        stream: DirectStream | None,
        pattern: Pattern,
        wording: StreamWording,
    ) -> RequestOutput:
        """The next that comes here; others may be written meanwhile without."""
        if stream is None:
            return await next_output(queue)
        self._chats.streams.begin(stream)
        try:
            return await next_output(queue)
        finally:
            self._chats.streams.end(stream)
            rest, token_ids = stream.take_rest()
            wording.num_new += len(token_ids)
            if rest is not None:
                self._held += pattern.chunk(rest)

    def _taken(self) -> bytes:
        held, self._held = self._held, b""
        return held

    def _arguments(self) -> list[Any]:
        """What vLLM's handler gives its generators, but for the outputs."""
        prompt, serving = self._prompt, self._chats.plain.serving
        return [
            PlainChatRequests().make(dict(prompt.fields)),
            prompt.request_id,
            serving.models.model_name(None),
            prompt.fields["messages"],
            serving.renderer.tokenizer,
            RequestResponseMetadata(request_id=prompt.request_id),
        ]


class EngineErrors:
    """What fails in the engine is an error of `AsyncLLM.generate`'s."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, EngineDeadError):
            raise EngineGenerateError from error


_ENGINE_ERRORS = EngineErrors()


async def next_output(queue: RequestOutputCollector) -> RequestOutput:
    output: RequestOutput = queue.get_nowait() or await queue.get()
    return output
