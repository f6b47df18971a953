"""The applications: the API, and the management port's three routes."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.body import JsonBody
from app.api.door import Door
from app.api.endpoints import models, probes, service, stateless
from app.api.error_rendering import ErrorRendering
from app.api.fast_lane import FastLane, Wrapper
from app.api.keep_alive import SseKeepAlive
from app.api.light_models import lighten
from app.api.observation import Observation
from app.api.openapi import describe
from app.api.resources import Resources
from app.api.tenancy import Tenancy
from app.core.errors import InvalidRequest
from app.core.foreign_errors import adopt, foreign
from app.core.request_rules import RequestRules
from app.core.routes import MANAGEMENT_ROUTES, ROUTES, Route, RouteTable

TITLE = "W8A8 gateway"


def create_app(
    resources: Resources,
    *,
    rules: RequestRules,
    max_body_bytes: int,
    body_timeout_s: float,
    sse_keep_alive_s: float,
    traces: bool = False,
) -> FastAPI:
    """The API. Ours are bound at once; `join_engine` adds the engine's routes when it is loaded."""
    wrappers: dict[str, Wrapper] = {}
    middleware = [
        observation(resources),
        *(tracing() if traces else ()),
        Middleware(ErrorRendering, translate=resources.translate),
        door(resources, ROUTES),
        Middleware(Tenancy, keys=resources.keys, admission=resources.admission),
        Middleware(
            JsonBody,
            max_bytes=max_body_bytes,
            timeout_s=body_timeout_s,
            rules=rules,
            try_constraints=resources.try_constraints,
        ),
        Middleware(SseKeepAlive, interval_s=sse_keep_alive_s),
        Middleware(FastLane, wrappers=wrappers),
    ]
    app = bare_app(resources, middleware)
    app.state.wrappers = wrappers
    for router in (probes, service, models, stateless):
        app.include_router(router)
    app.openapi = partial(describe, app, rules.limits)  # type: ignore[method-assign]
    return app


def create_management_app(resources: Resources) -> FastAPI:
    """Probes and metrics without a key, for a port that only the platform reaches."""
    middleware = [
        observation(resources),
        Middleware(ErrorRendering, translate=resources.translate),
        door(resources, MANAGEMENT_ROUTES),
    ]
    app = bare_app(resources, middleware)
    app.include_router(probes)
    return app


def observation(resources: Resources) -> Middleware:
    return Middleware(
        Observation,
        metrics=resources.metrics,
        model_name=resources.model_name,
        keep_usage=resources.keep_usage,
    )


def tracing() -> Iterator[Middleware]:
    from app.api.tracing import Tracing  # OpenTelemetry, which nobody else needs

    yield Middleware(Tracing)


def door(resources: Resources, routes: tuple[Route, ...]) -> Middleware:
    return Middleware(
        Door,
        table=RouteTable(routes),
        keys=resources.keys,
        state=resources.state,
        metrics=resources.metrics.keys,
    )


class Gateway(FastAPI):
    """Without Starlette's outermost middleware: what fails in ours, the server answers as that
    would, and each request takes a shorter way."""

    def build_middleware_stack(self) -> ASGIApp:
        stack = super().build_middleware_stack()
        assert isinstance(stack, ServerErrorMiddleware)  # noqa: S101 (a contract with Starlette)
        return stack.app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self
        if self.middleware_stack is None:
            self.middleware_stack = self.build_middleware_stack()
        await self.middleware_stack(scope, receive, send)


def bare_app(resources: Resources, middleware: list[Middleware]) -> FastAPI:
    app = Gateway(
        title=TITLE,
        version=resources.version,
        docs_url=None,  # its pages load scripts from a foreign host
        redoc_url=None,
        openapi_url="/openapi.json",
        middleware=middleware,
        exception_handlers={
            RequestValidationError: refuse_invalid_fields,
            HTTPException: refuse_as_framework_says,
        },
        redirect_slashes=False,
    )
    app.state.resources = resources
    return app


def join_engine(
    app: FastAPI, routers: Sequence[APIRouter], wrappers: Mapping[str, Wrapper] | None = None
) -> None:
    """Take the routes of the table out of the engine's routers; everything else stays outside.

    `wrappers`, by path: what the engine wants to stand before the application for a POST route.
    """
    ours = {pair for route in app.routes for pair in pairs_of(route)}
    wanted = {(route.method, route.template) for route in ROUTES} - ours
    picked = APIRouter()
    for router in routers:
        for route in router.routes:
            if wanted & pairs_of(route):
                picked.routes.append(route)
    app.include_router(picked)
    for route in app.routes:
        if isinstance(route, APIRoute):
            lighten(route)
    if wrappers:
        app.state.wrappers.update(wrappers)
    app.openapi_schema = None


def pairs_of(route: Any) -> set[tuple[str, str]]:
    """The methods and the path of a route, as the route table writes them."""
    path = getattr(route, "path", "").replace(":path}", "}")
    return {(method, path) for method in getattr(route, "methods", None) or ()}


async def refuse_invalid_fields(_: Request, error: Exception) -> NoReturn:
    """A request model's verdict, as one sentence about its first problem, naming the field."""
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    first = problems[0] if problems and isinstance(problems[0], dict) else {}
    field = field_of(first.get("loc", ()), getattr(error, "body", None))
    reason = foreign(str(first.get("msg", "The request is not valid.")))
    reason = reason.removeprefix("Value error, ")
    sentence = f"{field}: {reason}" if field else reason
    raise InvalidRequest(sentence, param=field or None, code="invalid_value") from error


def field_of(location: Sequence[str | int], body: Any) -> str:
    """The field that pydantic means, as a path into `body`.

    Its location also names branches of unions and validators; what the body does not have is one
    of those, unless it is the last part and missing.
    """
    parts: list[str] = []
    here = body
    for number, part in enumerate(location):
        is_last = number == len(location) - 1
        is_key = isinstance(here, dict) and part in here
        is_index = isinstance(here, list) and isinstance(part, int) and part < len(here)
        if is_key or is_index:
            here = here[part]
        elif not (is_last and isinstance(here, dict)):
            continue
        parts.append(str(part))
    return ".".join(parts)


async def refuse_as_framework_says(_: Request, error: Exception) -> NoReturn:
    assert isinstance(error, HTTPException)  # noqa: S101 (registered for it)
    raise adopt(error.status_code, str(error.detail)) from error
