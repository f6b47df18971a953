"""Deadlines as a client meets them; the script stands for vLLM and watches for a client that leaves
as vLLM's routes do. Time is virtual: how busy the machine is makes nothing late."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from app.api.deadline import Deadline
from app.core.admission import Admission
from app.core.client_connection import CLIENT, connection_of
from app.core.deadlines import DeadlineExceeded
from app.core.keys import KeyRing, digest_of, make_key
from app.core.quota import QuotaBook
from app.core.usage import UsageRecord
from tests.unit.api.conftest import SECRET, ScriptedEngine, app_with
from tests.unit.api.test_limits_on_the_wire import CHAT, generate, meter
from tests.unit.core.test_admission import open_queue
from tests.unit.virtual_time import run_virtually

MESSAGES = "/v1/messages"
BODY = {"model": "bundled"}
SOON = {"x-request-timeout-ms": "150"}


class Served:
    """The application with limits, one place in the engine, and what became of requests."""

    def __init__(self, app: FastAPI, engine: ScriptedEngine) -> None:
        self.resources, self.engine = app.state.resources, engine
        self.records: list[UsageRecord] = []
        self.resources.keep_usage = self.records.append
        self.queue = open_queue(1)
        self.book = QuotaBook(lambda: 1e9)
        self.resources.admission = Admission(
            self.book, self.queue, 50, self.resources.metrics.tenants
        )
        self.num_aborted = 0

    def client(self, timeout_ms: int | None = None) -> httpx.AsyncClient:
        key = make_key("unit", digest_of(SECRET), ["infer", "metrics"])
        self.resources.keys.adopt(KeyRing([replace(key, timeout_ms=timeout_ms)]))
        app = app_with(self.resources, self.engine)
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        headers = {"authorization": f"Bearer {SECRET}"}
        return httpx.AsyncClient(transport=transport, base_url="http://t", headers=headers)

    async def begin(self) -> None:
        """What MeteredAsyncLLM does, up to the first token."""
        mine = meter()
        assert mine.ticket is not None
        mine.ticket.note_first_token(await mine.ticket.enter(7, 50, 1))
        mine.prompt_tokens, mine.completion_tokens, mine.has_begun = 7, 3, True

    async def run_long(self) -> None:
        """In the engine until its client leaves."""
        await self.begin()
        try:
            await asyncio.sleep(30)
        finally:
            self.num_aborted += 1

    def assert_nothing_is_held(self) -> None:
        assert (self.queue.num_taken, self.queue.num_waiting) == (0, 0)
        assert [account.num_running for account in self.book.accounts.values()] == [0, 0]


@pytest.fixture
def served(app: FastAPI, engine: ScriptedEngine) -> Served:
    return Served(app, engine)


async def until_client_leaves(request: Request, work: Awaitable[None]) -> None:
    """As vLLM's `with_cancellation`: the work is a task of its own, which nobody else would end."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(request.receive())
    _, pending = await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()


def whole(served: Served) -> Callable[[Request], Any]:
    async def script(request: Request) -> Any:
        await until_client_leaves(request, served.run_long())
        return {"ok": True}  # as FastAPI then still answers

    return script


def streamed(served: Served) -> Callable[[Request], Any]:
    async def produce() -> AsyncIterator[str]:
        await served.begin()
        try:
            yield "data: 1\n\n"
            await asyncio.sleep(30)
        finally:
            served.num_aborted += 1

    async def script(_: Request) -> Any:
        return StreamingResponse(produce(), media_type="text/event-stream")

    return script


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
def test_a_late_answer_is_a_504_and_ended_in_the_engine(served: Served, path: str) -> None:
    served.engine.script = whole(served)
    answer = run_virtually(served.client().post(path, json=BODY, headers=SOON))
    assert answer.status_code == 504
    error = answer.json()["error"]
    assert error["type"] == "timeout_error"
    assert "0.15 s" in error["message"]
    assert path == MESSAGES or error["code"] == "deadline_exceeded"
    assert served.num_aborted == 1
    served.assert_nothing_is_held()
    (record,) = served.records
    assert (record.status, record.finish_reason) == (504, "deadline_exceeded")
    assert (record.prompt_tokens, record.completion_tokens) == (7, 3)
    assert record.ttft_ms is not None


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
def test_a_late_stream_ends_with_an_error_event(served: Served, path: str) -> None:
    served.engine.script = streamed(served)
    answer = run_virtually(served.client().post(path, json=BODY, headers=SOON))
    assert answer.status_code == 200
    events = [part for part in answer.text.split("\n\n") if part and not part.startswith(":")]
    assert events[0] == "data: 1"
    assert "timeout_error" in events[1]
    assert events[2:] == ([] if path == MESSAGES else ["data: [DONE]"])
    assert served.num_aborted == 1
    served.assert_nothing_is_held()
    assert [each.finish_reason for each in served.records] == ["deadline_exceeded"]


def test_a_route_that_does_not_watch_its_client_is_ended_all_the_same(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.api.deadline._GRACE_S", 0.1)

    async def script(_: Request) -> Any:
        await served.run_long()

    served.engine.script = script
    answer = run_virtually(served.client().post(CHAT, json=BODY, headers=SOON))
    assert answer.status_code == 504
    assert served.num_aborted == 1


def test_who_is_still_waiting_at_the_deadline_gets_a_503_and_has_spent_nothing(
    served: Served,
) -> None:
    served.engine.script = whole(served)

    async def ask_twice() -> tuple[httpx.Response, str]:
        client = served.client()
        first = asyncio.create_task(client.post(CHAT, json=BODY))
        await asyncio.sleep(0.05)
        assert served.queue.num_taken == 1
        second = await client.post(CHAT, json=BODY, headers=SOON)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        return second, (await client.get("/metrics")).text

    second, metrics = run_virtually(ask_twice())
    assert second.status_code == 503
    assert second.json()["error"]["code"] == "deadline_exceeded"
    assert int(second.headers["retry-after"]) >= 1
    assert 'gateway_refusals_total{limit="deadline_exceeded",tenant="unit"} 1.0' in metrics
    served.assert_nothing_is_held()
    assert [each.finish_reason for each in served.records] == ["stopped"]  # the first one's


def test_the_keys_own_time_holds_where_the_client_names_none(served: Served) -> None:
    served.engine.script = whole(served)

    async def ask() -> tuple[int, float]:
        answer = await served.client(timeout_ms=100).post(CHAT, json=BODY)
        return answer.status_code, asyncio.get_running_loop().time()

    status, after_s = run_virtually(ask())
    assert (status, after_s) == (504, pytest.approx(0.1, abs=0.01))


def test_an_answer_in_time_is_untouched(served: Served) -> None:
    async def script(_: Request) -> Any:
        await generate()
        return {"ok": True}

    served.engine.script = script
    headers = {"x-request-timeout-ms": "20000"}
    answer = run_virtually(served.client().post(CHAT, json=BODY, headers=headers))
    assert (answer.status_code, answer.json()) == (200, {"ok": True})


@pytest.mark.parametrize("given", ["0", "soon", "3600001"])
@pytest.mark.parametrize("path", [CHAT, MESSAGES])
def test_a_timeout_that_is_none_is_a_400_that_names_it(
    served: Served, path: str, given: str
) -> None:
    headers = {"x-request-timeout-ms": given}
    answer = run_virtually(served.client().post(path, json=BODY, headers=headers))
    assert answer.status_code == 400
    assert "x-request-timeout-ms" in answer.json()["error"]["message"]


def test_a_timer_that_fires_a_moment_early_is_no_client_that_left() -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        await asyncio.sleep(30)
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert connection_of(scope) is None  # it would know nothing of the deadline
        assert (await receive())["type"] == "http.disconnect"
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def run() -> None:
        deadline = Deadline(receive, send, 0.01)
        begun_s = asyncio.get_running_loop().time()
        deadline._now = lambda: begun_s  # a clock that has not got there yet
        scope = {"type": "http", CLIENT: object()}
        await deadline.run(app, scope, lambda: DeadlineExceeded("too late"))

    with pytest.raises(DeadlineExceeded):
        run_virtually(run())
    assert not sent
