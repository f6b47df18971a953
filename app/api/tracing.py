"""A span for each request that a key lets through to the engine; vLLM's own becomes its child.

In the stack only where traces are exported. vLLM sets up the exporter when it loads; until then,
and for requests that the client's `traceparent` says not to sample, spans cost next to nothing.
A span holds numbers and names, never what was said.
"""

import logging
from collections.abc import Iterator

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.context import RequestContext, context_of
from app.core.request_rules import TRACE_HEADERS

W3C = TraceContextTextMapPropagator()


class Tracing:
    """Inside the observation, which makes the request's context, and outside all that answers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.tracer = trace.get_tracer("gateway")
        # It would quote a `tracestate` that it cannot read: 8 KiB of anybody's words in our log.
        logging.getLogger("opentelemetry.trace.span").setLevel(logging.ERROR)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        context = context_of(scope)
        parent = W3C.extract(dict(given_headers(scope)))
        span = self.tracer.start_span("request", context=parent, kind=SpanKind.SERVER)
        context.trace_headers = headers_of(span)
        watch = StatusWatch(send)
        try:
            await self.app(scope, receive, watch.send)
        finally:
            describe(span, context, watch.status)
            if context.key is not None and context.route is not None and context.route.needs_engine:
                span.end()  # what is not ended is never exported: strangers and probes
        return None


class StatusWatch:
    """Wraps `send`. `status` 0: nothing was answered."""

    __slots__ = ("_send", "status")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


def given_headers(scope: Scope) -> Iterator[tuple[str, str]]:
    for name, value in scope["headers"]:
        if name in TRACE_HEADERS:
            yield name.decode("latin-1"), value.decode("latin-1")


def headers_of(span: Span) -> list[tuple[bytes, bytes]]:
    """What tells vLLM that its span belongs below this one; empty while nothing is exported."""
    carrier: dict[str, str] = {}
    W3C.inject(carrier, trace.set_span_in_context(span))
    return [(name.encode(), value.encode()) for name, value in carrier.items()]


def describe(span: Span, context: RequestContext, status: int) -> None:
    if not span.is_recording() or context.route is None:
        return
    meter, route = context.meter, context.route
    span.update_name(f"{route.method} {route.template}")
    known: dict[str, str | float | None] = {
        "http.request.method": route.method,
        "http.route": route.template,
        "http.response.status_code": status,
        "error.type": context.error_code,
        "gateway.request_id": context.id,
        "gateway.key": context.key.name if context.key else "",
        "gateway.stream": context.is_stream,
        "gateway.queue_s": meter.waited_s,
        "gen_ai.usage.input_tokens": meter.prompt_tokens,
        "gen_ai.usage.output_tokens": meter.completion_tokens,
    }
    span.set_attributes({name: value for name, value in known.items() if value not in ("", None)})
    if status >= 500 or not status:
        span.set_status(StatusCode.ERROR)


def flush() -> None:
    """Hand over what waits to be exported; blocks for as long as the exporter tries."""
    provider = trace.get_tracer_provider()
    if force_flush := getattr(provider, "force_flush", None):  # the engine's, once it is loaded
        force_flush()
