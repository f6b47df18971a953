"""A large body is checked in a thread: the loop goes on streaming everybody else's tokens."""

import asyncio
import threading

import httpx
from fastapi import FastAPI

from app.api.application import create_app, join_engine
from app.core.request_rules import Body, RequestRules
from tests.unit.api.conftest import SECRET, ScriptedEngine
from tests.unit.limits import DEFAULT_LIMITS

KEY = {"authorization": f"Bearer {SECRET}"}


class WaitingRules(RequestRules):
    """Their check waits until the loop has done something else."""

    loop: asyncio.AbstractEventLoop

    def check(self, template: str, body: Body, num_bytes: int) -> Body:
        loop_went_on = threading.Event()
        self.loop.call_soon_threadsafe(loop_went_on.set)
        assert loop_went_on.wait(10)
        return super().check(template, body, num_bytes)


def test_the_loop_goes_on_while_a_large_body_is_checked(
    app: FastAPI, engine: ScriptedEngine
) -> None:
    rules = WaitingRules(DEFAULT_LIMITS)
    made = create_app(
        app.state.resources,
        rules=rules,
        max_body_bytes=1 << 20,
        body_timeout_s=5,
        sse_keep_alive_s=0,
    )
    join_engine(made, engine.routers)
    body = {"model": "bundled", "messages": [{"role": "user", "content": "x" * 50_000}]}

    async def ask() -> httpx.Response:
        rules.loop = asyncio.get_running_loop()
        transport = httpx.ASGITransport(app=made)
        async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
            return await client.post("/v1/chat/completions", json=body, headers=KEY)

    assert asyncio.run(ask()).status_code == 200
