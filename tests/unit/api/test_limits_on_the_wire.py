"""Limits as a client meets them; the script stands for vLLM, with the metered engine's calls."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from app.core.admission import Admission
from app.core.errors import RequestError
from app.core.keys import KeyRing, digest_of, make_key
from app.core.meter import Meter, current_meter
from app.core.quota import QuotaBook
from tests.unit.api.conftest import SECRET, ScriptedEngine, app_with, foreign_error
from tests.unit.core.test_admission import open_queue

CHAT = "/v1/chat/completions"
BODY = {"model": "bundled"}
Limited = Callable[..., httpx.AsyncClient]


@pytest.fixture
def limited(app: FastAPI, engine: ScriptedEngine) -> Limited:
    """A client of the same application with limits on its key."""

    def make(**limits: int) -> httpx.AsyncClient:
        resources = app.state.resources
        resources.admission = Admission(
            QuotaBook(lambda: 1e9), open_queue(), 50, resources.metrics.tenants
        )
        resources.keys.adopt(
            KeyRing([make_key("unit", digest_of(SECRET), ["infer", "metrics"], limits=limits)])
        )
        made = app_with(resources, engine)
        transport = httpx.ASGITransport(app=made, raise_app_exceptions=False)
        headers = {"authorization": f"Bearer {SECRET}"}
        return httpx.AsyncClient(transport=transport, base_url="http://t", headers=headers)

    return make


def meter() -> Meter:
    found = current_meter.get()
    assert found is not None
    return found


async def generate(prompt: int = 10, completion: int = 50, used: int = 5) -> None:
    """What MeteredAsyncLLM does with the ticket."""
    mine = meter()
    assert mine.ticket is not None
    place = await mine.ticket.enter(prompt, completion, 1)
    mine.prompt_tokens += prompt
    mine.completion_tokens += used
    mine.ticket.leave(place)


async def answer(_: Request) -> Any:
    await generate()
    return {"ok": True}


def stream_with(*early: str) -> Callable[[Request], Any]:
    """A stream that sends `early` before it generates, as vLLM's Responses route does."""

    async def produce() -> AsyncIterator[str]:
        for event in early:
            yield event
            await asyncio.sleep(0.12)
        await generate()
        yield "data: 1\n\n"

    async def script(_: Request) -> Any:
        return StreamingResponse(produce(), media_type="text/event-stream")

    return script


async def swallow(_: Request) -> Any:
    """As vLLM's Anthropic route: every exception becomes a response of its own."""
    try:
        await generate()
    except RequestError:
        return foreign_error(500, "Internal server error")
    return {"ok": True}


def test_the_answer_carries_openais_headers(limited: Limited, engine: ScriptedEngine) -> None:
    engine.script = answer
    client = limited(requests_per_minute=6, tokens_per_minute=120)
    headers = asyncio.run(client.post(CHAT, json=BODY)).headers
    shown = {name: value for name, value in headers.items() if name.startswith("x-ratelimit")}
    assert shown == {
        "x-ratelimit-limit-requests": "6",
        "x-ratelimit-remaining-requests": "5",
        "x-ratelimit-reset-requests": "10s",
        "x-ratelimit-limit-tokens": "120",
        "x-ratelimit-remaining-tokens": "60",
        "x-ratelimit-reset-tokens": "0ms",
    }


@pytest.mark.parametrize("most", [2, 20])
def test_a_keys_own_bound_on_a_request_counts_instead_of_the_services(
    limited: Limited, engine: ScriptedEngine, most: int
) -> None:
    engine.script = answer

    async def ask() -> tuple[httpx.Response, httpx.Response]:
        client = limited(max_n=most)
        within = await client.post(CHAT, json=BODY | {"n": most})
        beyond = await client.post(CHAT, json=BODY | {"n": most + 1})
        return within, beyond

    within, beyond = asyncio.run(ask())
    assert within.status_code == 200
    assert beyond.status_code == 400
    assert beyond.json()["error"]["param"] == "n"


@pytest.mark.parametrize("path", [CHAT, "/v1/messages"])
@pytest.mark.parametrize(
    "script", [answer, swallow, stream_with(), stream_with("data: created\n\n")]
)
def test_a_quota_used_up_is_a_429_on_every_route_and_in_every_shape(
    limited: Limited, engine: ScriptedEngine, path: str, script: Any
) -> None:
    engine.script = script
    client = limited(requests_per_minute=1)

    async def ask_twice() -> tuple[httpx.Response, httpx.Response]:
        return await client.post(path, json=BODY), await client.post(path, json=BODY)

    first, second = asyncio.run(ask_twice())
    assert first.status_code == 200
    assert second.status_code == 429
    assert second.headers["retry-after"] == "60"
    assert second.headers["x-ratelimit-remaining-requests"] == "0"
    error = second.json()["error"]
    assert error["type"] == "rate_limit_error"
    assert "requests_per_minute" in error["message"]
    assert path != CHAT or error["code"] == "rate_limit_exceeded"


def test_a_stream_that_begins_early_is_whole_once_it_is_let_in(
    limited: Limited, engine: ScriptedEngine
) -> None:
    engine.script = stream_with("data: created\n\n", "data: in_progress\n\n")
    text = asyncio.run(limited().post(CHAT, json=BODY)).text
    events = [part for part in text.split("\n\n") if part and not part.startswith(":")]
    assert events == ["data: created", "data: in_progress", "data: 1"]


@pytest.mark.parametrize("ending", ["finish", "fail", "leave"])
def test_however_a_request_ends_nothing_stays_reserved(
    limited: Limited, engine: ScriptedEngine, ending: str
) -> None:
    async def script(_: Request) -> Any:
        await generate()
        if ending == "fail":
            raise RuntimeError("boom")
        if ending == "leave":
            await asyncio.sleep(30)
        return {"ok": True}

    engine.script = script
    client = limited(concurrent_requests=1, tokens_per_minute=120)

    async def ask() -> tuple[str, httpx.Response]:
        request = asyncio.create_task(client.post(CHAT, json=BODY))
        await asyncio.wait({request}, timeout=0.5)
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
        engine.script = answer
        metrics = (await client.get("/metrics")).text
        return metrics, await client.post(CHAT, json=BODY)

    metrics, again = asyncio.run(ask())
    assert 'gateway_tenant_reserved_tokens{tenant="unit"} 0.0' in metrics
    assert 'gateway_tenant_requests{tenant="unit"} 0.0' in metrics
    assert again.status_code == 200
    assert again.headers["x-ratelimit-remaining-tokens"] == str(120 - 15 - 60)


def test_refusals_are_counted_by_tenant_and_limit(limited: Limited, engine: ScriptedEngine) -> None:
    engine.script = answer
    client = limited(tokens_per_minute=60)

    async def ask() -> str:
        for _ in range(3):
            await client.post(CHAT, json=BODY)
        return (await client.get("/metrics")).text

    counted = 'gateway_refusals_total{limit="tokens_per_minute",tenant="unit"} 2.0'
    assert counted in asyncio.run(ask())
