"""What a key and its tenant may have holds for chats that are taken to the engine directly."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from vllm.v1.engine import FinishReason

from app.core.admission import Admission
from app.core.errors import InvalidRequest
from app.core.keys import make_key
from app.core.meter import Meter, current_meter
from app.core.parsed_body import hand_on
from app.core.quota import QuotaBook
from app.core.tenants import Tenant
from app.engine.fast_path.whole_answers import WholeAnswers
from tests.unit.core.test_admission import Heard, open_queue
from tests.unit.engine.fast_path.fast_client import Client
from tests.unit.engine.fast_path.recorded_engine import TURNS, Piece
from tests.unit.engine.fast_path.test_direct_chats import BODY, direct
from tests.unit.engine.fast_path.test_plain_chats import Bench
from tests.unit.engine.fast_path.wired_engine import WiredEngine

BOTH = pytest.mark.parametrize("streamed", [{}, {"stream": True}])
DEFAULT_TOKENS = 50


class Limited:
    """A gateway's limits before the route; its engine has so many places."""

    def __init__(self, route: WholeAnswers, engine: WiredEngine, num_places: int) -> None:
        self.route, self.engine = route, engine
        self.heard, self.book = Heard(), QuotaBook(lambda: 1e9)
        self.queue = open_queue(num_places)
        self.admission = Admission(self.book, self.queue, DEFAULT_TOKENS, self.heard)

    def ask(self, client: Client, **limits: int) -> tuple["asyncio.Task[None]", Meter]:
        key = make_key("k", "0" * 64, ["infer"], limits=limits)
        meter = Meter(ticket=self.admission.open(key, Tenant("t")))
        meter.note_asked(client.body)
        return asyncio.create_task(self.serve(client, meter)), meter

    async def serve(self, client: Client, meter: Meter) -> None:
        current_meter.set(meter)
        scope = client.scope("7")
        hand_on(scope, client.body)
        try:
            await self.route(scope, client.receive, client.send)
        finally:
            assert meter.ticket is not None
            await meter.end()
            await meter.ticket.close(meter.completion_tokens)


def with_limits(
    bench: Bench, use: Callable[[Limited], Awaitable[None]], num_places: int = 9
) -> None:
    async def run() -> None:
        async with asyncio.timeout(30), direct(bench) as (route, engine, _):
            limited = Limited(route, engine, num_places)
            await use(limited)
            assert limited.queue.num_taken == 0
            assert limited.heard.held == (0, 0)
            assert not engine.output_processor.request_states

    asyncio.run(run())


async def turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


@BOTH
def test_an_answer_is_counted_and_its_place_free_again(bench: Bench, streamed: Any) -> None:
    async def use(limited: Limited) -> None:
        client = Client(BODY | streamed)
        asking, meter = limited.ask(client)
        request = await limited.engine.next_request()
        assert request.sampling_params is not None
        assert request.sampling_params.max_tokens == DEFAULT_TOKENS
        assert request.cache_salt == "t:"
        assert limited.queue.num_taken == 1
        for piece in (Piece([97]), Piece([98, 99]), Piece([100], FinishReason.STOP)):
            await limited.engine.step({request.request_id: piece})
        await asking
        assert client.is_complete
        assert (meter.completion_tokens, meter.finish_reason) == (4, "stop")
        assert meter.prompt_tokens == len(request.prompt_token_ids or ())
        assert limited.book.accounts["key:k"].day_tokens == meter.prompt_tokens + 4

    with_limits(bench, use)


@BOTH
def test_what_a_key_may_not_ask_for_never_gets_to_the_engine(bench: Bench, streamed: Any) -> None:
    async def use(limited: Limited) -> None:
        client = Client(BODY | streamed | {"max_tokens": 9})
        asking, _ = limited.ask(client, max_tokens=8)
        with pytest.raises(InvalidRequest, match="asks for 9; the max_tokens of"):
            await asking
        assert not client.parts
        asking, _ = limited.ask(Client(BODY | streamed), max_tokens=8)
        request = await limited.engine.next_request()
        assert request.sampling_params is not None
        assert request.sampling_params.max_tokens == 8
        await limited.engine.step({request.request_id: Piece([97], FinishReason.LENGTH)})
        await asking
        limited.engine.engine_core.read_wire()
        assert len(limited.engine.engine_core.added) == 1

    with_limits(bench, use)


@BOTH
def test_the_engine_knows_nothing_of_what_waits_for_a_place(bench: Bench, streamed: Any) -> None:
    async def use(limited: Limited) -> None:
        first, _ = limited.ask(Client(BODY | streamed))
        request = await limited.engine.next_request()
        second, _ = limited.ask(Client(BODY | streamed))
        leaver = Client(BODY | streamed)
        third, _ = limited.ask(leaver)
        await turns()
        leaver.has_left.set()
        await third
        limited.engine.engine_core.read_wire()
        assert len(limited.engine.engine_core.added) == 1
        await limited.engine.step({request.request_id: Piece([97], FinishReason.STOP)})
        await first
        request = await limited.engine.next_request(1)
        await limited.engine.step({request.request_id: Piece([97], FinishReason.STOP)})
        await second
        assert not limited.engine.engine_core.aborted

    with_limits(bench, use, num_places=1)


@BOTH
def test_a_client_that_leaves_ends_its_request_in_the_engine(bench: Bench, streamed: Any) -> None:
    async def use(limited: Limited) -> None:
        client = Client(BODY | streamed)
        asking, meter = limited.ask(client)
        request = await limited.engine.next_request()
        for piece in (Piece([97]), Piece([98]), Piece([99])):
            await limited.engine.step({request.request_id: piece})
        client.has_left.set()
        await asking
        limited.engine.engine_core.read_wire()
        assert limited.engine.engine_core.aborted == [request.request_id]
        assert meter.completion_tokens == 3
        assert not client.is_complete

    with_limits(bench, use)


@BOTH
def test_a_service_that_ends_takes_its_requests_along(bench: Bench, streamed: Any) -> None:
    async def use(limited: Limited) -> None:
        asking, _ = limited.ask(Client(BODY | streamed))
        request = await limited.engine.next_request()
        await limited.engine.step({request.request_id: Piece([97])})
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        limited.engine.engine_core.read_wire()
        assert limited.engine.engine_core.aborted == [request.request_id]

    with_limits(bench, use)
