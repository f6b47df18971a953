"""A large body is checked in a thread: the loop goes on streaming everybody else's tokens."""

import asyncio
import json
import threading
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.api import body
from app.api.application import create_app, join_engine
from app.api.body import JsonBody
from app.api.context import SCOPE_KEY, RequestContext
from app.core.errors import Unavailable
from app.core.keys import digest_of, make_key
from app.core.request_rules import Body, RequestRules
from app.core.routes import GUARDED_ROUTES
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


CHAT = next(route for route in GUARDED_ROUTES if route.template == "/v1/chat/completions")
LONG = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x" * 18_000}]}).encode()


class Sender:
    """A request of `tenant` that has sent all of a long body but for its last byte."""

    def __init__(self, stack: JsonBody, tenant: str) -> None:
        self.context = RequestContext(route=CHAT)
        self.context.key = make_key(tenant, digest_of(tenant), ["infer"])
        self.scope = {
            "type": "http",
            "headers": [(b"content-type", b"application/json")],
            SCOPE_KEY: self.context,
        }
        self.parts = [LONG[:-1], LONG[-1:]]
        self.has_begun, self.may_end = asyncio.Event(), asyncio.Event()
        self.answering = asyncio.create_task(stack(self.scope, self.receive, self.send))

    async def receive(self) -> dict[str, Any]:
        if len(self.parts) == 1:
            self.has_begun.set()
            await self.may_end.wait()
        return {"type": "http.request", "body": self.parts.pop(0), "more_body": bool(self.parts)}

    async def send(self, message: Any) -> None: ...

    async def end(self) -> None:
        self.may_end.set()
        await self.answering


def test_a_tenants_long_bodies_have_so_much_room_and_it_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def answer(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["body"] == LONG

    async def let_pass(constraints: Any, tenant: Any) -> None: ...

    async def use() -> None:
        stack = JsonBody(answer, 20_000, 30, RequestRules(DEFAULT_LIMITS), let_pass)
        two = [Sender(stack, "a"), Sender(stack, "a")]
        for each in two:
            await each.has_begun.wait()
        with pytest.raises(Unavailable, match="40000 bytes") as refused:
            await Sender(stack, "a").answering
        assert refused.value.retry_after_s
        await Sender(stack, "b").end()
        two[0].answering.cancel()  # however it ends
        with pytest.raises(asyncio.CancelledError):
            await two[0].answering
        await Sender(stack, "a").end()
        await two[1].end()
        assert not stack.room._held

    monkeypatch.setattr(body, "MAX_HELD_BYTES", 0)
    asyncio.run(use())
