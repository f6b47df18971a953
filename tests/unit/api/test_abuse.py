"""The corpus against the door alone: what it can refuse, it refuses before the engine is asked."""

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from prometheus_client import CollectorRegistry

from app.api.metrics import Metrics
from app.api.resources import Resources
from app.core.envelopes import MAX_ERROR_BYTES
from app.core.keys import KeyRing, digest_of, make_key
from app.core.request_fields import TABLES
from app.core.state import ServiceState
from tests.abuse.attack import ATTACKS, Attack
from tests.abuse.leaks import leak_in
from tests.unit.api.conftest import SECRET, ScriptedEngine, app_with


class WatchedEngine(ScriptedEngine):
    """Has every route of the table, and notes what reaches it."""

    def make_router(self) -> APIRouter:
        self.reached: list[Any] = []
        router = APIRouter()

        async def reach(request: Request) -> dict[str, Any]:
            self.reached.append(await request.json())
            return {}

        for path in TABLES:
            router.add_api_route(path, reach, methods=["POST"])
        return router


@pytest.fixture
def watched() -> WatchedEngine:
    return WatchedEngine()


@pytest.fixture
def guarded(watched: WatchedEngine, state: ServiceState) -> FastAPI:
    keys = KeyRing([make_key("unit", digest_of(SECRET), ["infer"])])
    resources = Resources(state, keys, Metrics(CollectorRegistry()), "0", "bundled")
    return app_with(
        resources, watched, max_body_bytes=8 << 20, body_timeout_s=5, sse_keep_alive_s=0
    )


def send(app: FastAPI, attack: Attack) -> httpx.Response:
    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        headers = {"authorization": f"Bearer {SECRET}"} | attack.all_headers()
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            url = httpx.URL("http://test").copy_with(raw_path=attack.path.encode())
            return await client.request(attack.method, url, content=attack.content(), headers=raw)

    return asyncio.run(run())


def test_the_corpus_is_a_corpus() -> None:
    assert len(ATTACKS) >= 60
    assert all(attack.stage in ("door", "engine") for attack in ATTACKS)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_the_door_refuses(guarded: FastAPI, watched: WatchedEngine, attack: Attack) -> None:
    answer = send(guarded, attack)
    if attack.stage == "engine":
        assert watched.reached
        return
    assert not watched.reached
    assert answer.status_code == attack.status, answer.text
    assert len(answer.content) <= MAX_ERROR_BYTES
    assert not leak_in(answer.text)
    if attack.code:
        assert answer.json()["error"]["code"] == attack.code, answer.text
    else:
        assert answer.json()["error"]["message"]
