"""A client leaves one of vLLM's own routes: its tokens count before its ticket is closed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send
from vllm.entrypoints.serve.utils.api_utils import with_cancellation
from vllm.sampling_params import RequestOutputKind, SamplingParams
from vllm.utils.async_utils import merge_async_iterators

from app.api.context import SCOPE_KEY, RequestContext
from app.api.tenancy import Tenancy
from app.core.admission import Admission
from app.core.keys import KeyRing, make_key
from app.core.meter import current_meter
from app.core.quota import QuotaBook
from tests.unit.core.test_admission import open_queue
from tests.unit.engine.fast_path.recorded_engine import PROMPT, TURNS, Piece, RecordedEngine
from tests.unit.silent_observer import SilentObserver

Answer = Callable[[RecordedEngine], Awaitable[Any]]


def generate(engine: RecordedEngine, name: str, kind: RequestOutputKind) -> AsyncIterator[Any]:
    params = SamplingParams(max_tokens=99, output_kind=kind)
    return engine.generate({"prompt_token_ids": PROMPT}, params, name)


async def whole(engine: RecordedEngine) -> None:
    async for _ in generate(engine, "0", RequestOutputKind.FINAL_ONLY):
        pass


async def whole_of_two_prompts(engine: RecordedEngine) -> None:
    kind = RequestOutputKind.FINAL_ONLY
    async for _ in merge_async_iterators(generate(engine, "0", kind), generate(engine, "1", kind)):
        pass


async def stream(engine: RecordedEngine) -> StreamingResponse:
    async def events() -> AsyncIterator[str]:
        async for _ in generate(engine, "0", RequestOutputKind.DELTA):
            yield "data: {}\n\n"

    return StreamingResponse(events())


class Leaver:
    """`num_sent`: what it reads of a stream before it reads no more."""

    def __init__(self, answer: Answer) -> None:
        self.engine, self.answer = RecordedEngine(), answer
        self.book = QuotaBook(lambda: 1e9)
        key = make_key("k", "0" * 64, ["infer"])
        admission = Admission(self.book, open_queue(), 99, SilentObserver())
        self.context = RequestContext(key=key)
        self.app = Tenancy(self.route, KeyRing([key]), admission)
        self.left, self.held = asyncio.Event(), asyncio.Event()

    async def route(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As vLLM's routes are, but for their words."""
        handler = with_cancellation(lambda *_: self.answer(self.engine))
        response = await handler(None, SimpleNamespace(receive=receive, app=SimpleNamespace()))
        if response is not None:
            await response(scope, receive, send)

    async def receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message.get("body"):
            await asyncio.Event().wait()  # it does not read

    def ask(self) -> "asyncio.Task[None]":
        current_meter.set(self.context.meter)
        scope = {"type": "http", "headers": [], SCOPE_KEY: self.context}
        return asyncio.create_task(self.app(scope, self.receive, self.send))

    async def leave(self) -> None:
        asking = self.ask()
        names = ("0", "1") if self.answer is whole_of_two_prompts else ("0",)
        for name in names:
            await self.engine.until_asked(name)
        for _ in range(3):
            await self.engine.step({name: Piece([97]) for name in names})
        self.left.set()
        await asking
        for name in names:
            assert f"{name}-internal" in self.engine.engine_core.aborted


@pytest.mark.parametrize("answer", [whole, whole_of_two_prompts, stream])
def test_what_was_computed_is_counted_before_the_ticket_is_closed(answer: Answer) -> None:
    async def use() -> None:
        leaver = Leaver(answer)
        await leaver.leave()
        num_prompts = 2 if answer is whole_of_two_prompts else 1
        # Of a stream that nobody reads the engine's later outputs were never asked for.
        num_tokens = 1 if answer is stream else 3 * num_prompts
        assert leaver.context.meter.completion_tokens == num_tokens
        account = leaver.book.accounts["key:k"]
        assert account.day_tokens == len(PROMPT) * num_prompts + num_tokens
        assert account.reserved_tokens == 0

    asyncio.run(use())


def test_a_service_that_ends_does_not_wait_for_what_nobody_cancels() -> None:
    async def use() -> None:
        leaver = Leaver(whole)
        asking = leaver.ask()
        await leaver.engine.until_asked("0")
        asking.cancel()
        for _ in range(TURNS):
            await asyncio.sleep(0)
        assert asking.cancelled()
        assert leaver.book.accounts["key:k"].reserved_tokens == 0

    asyncio.run(use())
