"""The application as shipped, with a stand-in for the engine: its routes answer from a script.

Real: every middleware, the door, the route table, our endpoints. Not real: what the model says.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from app.api.application import create_app, join_engine
from app.api.metrics import Metrics
from app.api.resources import Resources
from app.core.constraints import Constraint
from app.core.errors import InternalError, RequestError
from app.core.keys import KeyRing, digest_of, make_key
from app.core.loaded_model import LoadedModel
from app.core.request_rules import RequestRules
from app.core.state import Phase, ServiceState
from tests.unit.limits import DEFAULT_LIMITS

SECRET = "sk-unit"
Script = Callable[[Request], Awaitable[Any]]


class ChatBody(BaseModel):
    model: str
    max_tokens: int | None = None


class ScriptedEngine:
    """Implements EngineView; `script` is what its chat and messages routes do."""

    def __init__(self) -> None:
        self.loaded = LoadedModel({"X/Int8": 1}, "head", 1, 1, 4096, 8, 4, 16)
        self.script: Script = self.answer
        self.routers = [self.make_router()]
        self.is_dead = False
        self.num_unfinished = 0
        self.version = "test"

    async def answer(self, request: Request) -> Any:
        return {"ok": True, "headers": sorted(request.headers.keys())}

    def make_router(self) -> APIRouter:
        router = APIRouter()

        @router.post("/v1/chat/completions")
        @router.post("/v1/messages")
        @router.post("/invocations")
        async def chat(body: ChatBody, request: Request) -> Any:
            return await self.script(request)

        return router

    async def answer_heartbeat(self) -> None:
        pass

    def kill(self) -> None:
        pass

    async def list_models(self) -> list[dict[str, Any]]:
        return [{"id": "org/bundled"}]

    async def check_constraints(
        self, constraints: Sequence[Constraint], tenant: str | None
    ) -> None:
        self.constraints, self.constraining_tenant = tuple(constraints), tenant

    def translate(self, error: Exception) -> RequestError:
        return InternalError("The engine failed on this request.", code="engine_error")

    def stop(self, timeout_s: float) -> None:
        self.is_dead = True


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture
def state() -> ServiceState:
    return ready_state()


def ready_state() -> ServiceState:
    state = ServiceState()
    state.enter(Phase.LOADING)
    state.enter(Phase.READY)
    return state


def app_with(
    resources: Resources,
    engine: ScriptedEngine,
    *,
    max_body_bytes: int = 4096,
    body_timeout_s: float = 0.3,
    sse_keep_alive_s: float = 0.05,
    traces: bool = False,
) -> FastAPI:
    """As the service makes it and joins its engine."""
    resources.engine = engine
    app = create_app(
        resources,
        rules=RequestRules(DEFAULT_LIMITS),
        max_body_bytes=max_body_bytes,
        body_timeout_s=body_timeout_s,
        sse_keep_alive_s=sse_keep_alive_s,
        traces=traces,
    )
    join_engine(app, engine.routers)
    return app


@pytest.fixture
def app(engine: ScriptedEngine, state: ServiceState) -> Iterator[FastAPI]:
    keys = KeyRing([make_key("unit", digest_of(SECRET), ["infer", "metrics", "admin"])])
    resources = Resources(state, keys, Metrics(CollectorRegistry()), "0", "bundled")
    yield app_with(resources, engine)


@pytest.fixture
def client(app: FastAPI) -> httpx.AsyncClient:
    """Use it inside `asyncio.run`, one request after another."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app, raise_app_exceptions=False),
        base_url="http://test",
        headers={"authorization": f"Bearer {SECRET}"},
    )


def stream_of(*events: str, error: Exception | None = None) -> StreamingResponse:
    async def produce() -> AsyncIterator[str]:
        for event in events:
            yield event
        if error is not None:
            raise error

    return StreamingResponse(produce(), media_type="text/event-stream")


def foreign_error(status: int, message: str) -> JSONResponse:
    """As vLLM words one: an integer for a code."""
    body = {"error": {"message": message, "type": "BadRequestError", "param": None, "code": status}}
    return JSONResponse(body, status_code=status)
