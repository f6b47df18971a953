"""Spans around requests, exported to memory; the engine is a stand-in that shows its headers."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from app.api.metrics import Metrics
from app.api.resources import Resources
from app.core.keys import KeyRing, digest_of, make_key
from app.core.state import ServiceState
from tests.unit.api.conftest import SECRET, ScriptedEngine, app_with

CLIENT_TRACE, CLIENT_SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{CLIENT_TRACE}-{CLIENT_SPAN}-01"
CHAT = {"model": "bundled", "messages": [{"role": "user", "content": "a secret of mine"}]}


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    exported = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exported))
    trace.set_tracer_provider(provider)
    return exported


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> Iterator[InMemorySpanExporter]:
    exporter.clear()
    yield exporter


def ask(
    engine: ScriptedEngine,
    state: ServiceState,
    *,
    traces: bool,
    path: str = "/v1/chat/completions",
    tracestate: str = "a=b",
    **more: object,
) -> httpx.Response:
    async def show(request: Any) -> Any:
        return {name: request.headers.get(name) for name in ("traceparent", "tracestate")}

    engine.script = show
    keys = KeyRing([make_key("unit", digest_of(SECRET), ["infer"])])
    resources = Resources(state, keys, Metrics(CollectorRegistry()), "0", "bundled")
    app = app_with(resources, engine, traces=traces)
    transport = httpx.ASGITransport(app=app)
    headers = {"authorization": f"Bearer {SECRET}", "traceparent": TRACEPARENT}
    headers["tracestate"] = tracestate

    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post(path, json=CHAT | more, headers=headers)

    return asyncio.run(send())


def only(spans: InMemorySpanExporter) -> ReadableSpan:
    (span,) = spans.get_finished_spans()
    return span


def test_the_engine_continues_the_clients_trace_below_our_span(
    engine: ScriptedEngine, state: ServiceState, spans: InMemorySpanExporter
) -> None:
    seen = ask(engine, state, traces=True).json()
    span = only(spans)
    assert span.parent is not None
    assert f"{span.parent.trace_id:032x}" == CLIENT_TRACE
    assert f"{span.parent.span_id:016x}" == CLIENT_SPAN
    assert seen["traceparent"] == f"00-{CLIENT_TRACE}-{span.context.span_id:016x}-01"
    assert seen["tracestate"] == "a=b"


def test_a_span_says_what_became_of_the_request_and_nothing_of_what_was_said(
    engine: ScriptedEngine, state: ServiceState, spans: InMemorySpanExporter
) -> None:
    answer = ask(engine, state, traces=True)
    span = only(spans)
    assert span.name == "POST /v1/chat/completions"
    assert span.attributes is not None
    assert span.attributes["http.response.status_code"] == 200
    assert span.attributes["gateway.request_id"] == answer.headers["x-request-id"]
    assert "secret" not in span.to_json()


def test_a_refused_request_is_traced_with_its_error(
    engine: ScriptedEngine, state: ServiceState, spans: InMemorySpanExporter
) -> None:
    assert ask(engine, state, traces=True, nonsense=1).status_code == 400
    attributes = only(spans).attributes
    assert attributes is not None
    assert attributes["error.type"] == "unknown_parameter"
    assert attributes["http.response.status_code"] == 400


def test_without_tracing_there_is_no_span_and_the_engine_hears_of_no_trace(
    engine: ScriptedEngine, state: ServiceState, spans: InMemorySpanExporter
) -> None:
    seen = ask(engine, state, traces=False).json()
    assert seen == {"traceparent": None, "tracestate": None}
    assert not spans.get_finished_spans()


@pytest.mark.parametrize("path", ["/v1/nowhere", "/admin/status"])
def test_what_does_not_reach_the_engine_leaves_no_span(
    engine: ScriptedEngine, state: ServiceState, spans: InMemorySpanExporter, path: str
) -> None:
    assert ask(engine, state, traces=True, path=path).status_code in (404, 405)
    assert not spans.get_finished_spans()


@pytest.mark.usefixtures("exporter")
def test_a_tracestate_that_cannot_be_read_is_not_quoted_in_the_log(
    engine: ScriptedEngine, state: ServiceState, caplog: pytest.LogCaptureFixture
) -> None:
    asked = ask(engine, state, traces=True, tracestate="what nobody is to read")
    assert asked.status_code == 200
    assert "nobody is to read" not in caplog.text
