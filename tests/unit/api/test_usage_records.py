import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from app.core.meter import current_meter
from app.core.usage import UsageRecord
from tests.unit.api.conftest import SECRET, ScriptedEngine, app_with, stream_of

CHAT = "/v1/chat/completions"


@pytest.fixture
def kept(app: FastAPI, engine: ScriptedEngine) -> tuple[httpx.AsyncClient, list[UsageRecord]]:
    """A client of the same application with a journal, and what that journal was given."""
    records: list[UsageRecord] = []
    resources = app.state.resources
    resources.keep_usage = records.append
    transport = httpx.ASGITransport(app=app_with(resources, engine), raise_app_exceptions=False)
    headers = {"authorization": f"Bearer {SECRET}"}
    return httpx.AsyncClient(transport=transport, base_url="http://t", headers=headers), records


def use_tokens() -> None:
    """What the metered engine does when it has worked on the request."""
    meter = current_meter.get()
    assert meter is not None
    meter.has_begun = True
    meter.prompt_tokens, meter.cached_tokens, meter.completion_tokens = 7, 3, 5
    meter.finish_reason = "stop"


def test_one_request_is_one_record_without_its_content(
    kept: tuple[httpx.AsyncClient, list[UsageRecord]], engine: ScriptedEngine
) -> None:
    client, records = kept

    async def script(_: Request) -> Any:
        use_tokens()
        return stream_of("data: 1\n\n", "data: [DONE]\n\n")

    engine.script = script
    answer = asyncio.run(client.post(CHAT, json={"model": "bundled", "user": "someone"}))
    (record,) = records
    assert record.id == answer.headers["x-request-id"]
    assert (record.key, record.tenant, record.model) == ("unit", "unit", "bundled")
    assert (record.prompt_tokens, record.cached_tokens, record.completion_tokens) == (7, 3, 5)
    assert (record.status, record.finish_reason) == (200, "stop")
    assert record.ttft_ms is not None
    assert record.duration_ms >= record.ttft_ms


def test_a_request_that_fails_after_its_tokens_is_recorded_and_one_without_tokens_is_not(
    kept: tuple[httpx.AsyncClient, list[UsageRecord]], engine: ScriptedEngine
) -> None:
    client, records = kept

    async def fail_late(_: Request) -> Any:
        use_tokens()
        raise RuntimeError("boom")

    async def fail_early(_: Request) -> Any:
        raise RuntimeError("boom")

    engine.script = fail_early
    asyncio.run(client.post(CHAT, json={"model": "bundled"}))
    assert records == []
    engine.script = fail_late
    asyncio.run(client.post(CHAT, json={"model": "bundled"}))
    assert [record.status for record in records] == [500]
