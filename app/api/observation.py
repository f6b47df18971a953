"""Measures and logs each request, and gives it its id. Outermost of our middlewares."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.context import SCOPE_KEY, RequestContext, header_of, is_event_stream
from app.api.metrics import NO_KEY, NO_ROUTE, Metrics, RequestMetrics
from app.core.envelopes import Family, shorten
from app.core.logs import FieldsRecord
from app.core.meter import current_meter
from app.core.usage import UsageRecord

logger = logging.getLogger("gateway.access")
CLIENT_CLOSED = 499  # nginx's number for a client that left before its answer

KeepUsage = Callable[[UsageRecord], None]

_QUIET = frozenset({"/health", "/ready", "/metrics"})  # probes: logged at debug


_DONE = b"data: [DONE]"


class Observation:
    """`keep_usage` takes the record of each request that the engine has worked on."""

    def __init__(
        self, app: ASGIApp, metrics: Metrics, model_name: str, keep_usage: KeepUsage | None
    ) -> None:
        self.app, self.metrics = app, metrics
        self.model_name, self.keep_usage = model_name, keep_usage

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        context = begin(scope)
        token = current_meter.set(context.meter)
        watch = ResponseWatch(context, send, self.metrics.requests)
        self.metrics.requests.num_in_flight += 1
        try:
            await self.app(scope, watch.receive_from(receive), watch.send)
        finally:
            current_meter.reset(token)
            self.metrics.requests.num_in_flight -= 1
            self.record(scope, context, watch)
        return None

    def record(self, scope: Scope, context: RequestContext, watch: "ResponseWatch") -> None:
        meter = context.meter
        route = context.route.template if context.route else NO_ROUTE
        key = context.key.name if context.key else NO_KEY
        is_cut_off = watch.has_client_left or not watch.is_complete
        status = CLIENT_CLOSED if is_cut_off and watch.status < 400 else watch.status
        duration = perf_counter() - context.started
        tenant = context.key.tenant if context.key else NO_KEY
        self.metrics.requests.answered(route, status, key, duration, meter)
        self.metrics.tenants.answered(tenant, meter)
        if is_cut_off:
            meter.finish_reason = "cancelled"
        elif context.error_code:
            meter.finish_reason = context.error_code
        if meter.prompt_tokens and self.keep_usage is not None:
            self.keep_usage(self.usage_of(context, watch, status))
        level = logging.DEBUG if route in _QUIET else logging.INFO
        if not logger.isEnabledFor(level):
            return
        line = {
            "request_id": context.id,
            "client_request_id": context.client_request_id,
            "method": scope["method"][:16],
            "route": route,
            "status": status,
            "key": key,
            "stream": context.is_stream,
            "duration_ms": round(duration * 1000, 1),
            "queue_ms": milliseconds(meter.waited_s),
            "ttft_ms": milliseconds(watch.ttft),
            "prompt_tokens": meter.prompt_tokens,
            "completion_tokens": meter.completion_tokens,
            "finish_reason": meter.finish_reason,
            "error": context.error_code,
        }
        said = {name: value for name, value in line.items() if value not in ("", None)}
        logger.handle(FieldsRecord(logger, level, "request", said))

    def usage_of(self, context: RequestContext, watch: "ResponseWatch", status: int) -> UsageRecord:
        meter, key = context.meter, context.key
        return UsageRecord(
            id=context.id,
            time=datetime.now(UTC).isoformat(timespec="milliseconds"),
            key=key.name if key else NO_KEY,
            tenant=key.tenant if key else NO_KEY,
            model=meter.model or self.model_name,
            route=context.route.template if context.route else NO_ROUTE,
            status=status,
            prompt_tokens=meter.prompt_tokens,
            cached_tokens=meter.cached_tokens,
            completion_tokens=meter.completion_tokens,
            queue_ms=milliseconds(meter.waited_s),
            ttft_ms=milliseconds(meter.first_token_s if watch.ttft is None else watch.ttft),
            duration_ms=round((perf_counter() - context.started) * 1000, 1),
            finish_reason=meter.finish_reason,
        )


def milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


def begin(scope: Scope) -> RequestContext:
    """The context of a new request; our id is the one that vLLM sees, the client's is recorded."""
    context = RequestContext()
    if given := header_of(scope, b"x-request-id"):
        context.client_request_id = shorten(given.decode("latin-1"), 128)
    if scope["path"].startswith("/v1/messages"):
        context.family = Family.ANTHROPIC
    has_length = (header_of(scope, b"content-length") or b"0") != b"0"
    context.has_unread_body = has_length or header_of(scope, b"transfer-encoding") is not None
    scope[SCOPE_KEY] = context
    return context


class ResponseWatch:
    """Wraps `send`: notes the status, the end, and the times of a stream's events."""

    __slots__ = (
        *("_send", "context", "has_client_left", "is_complete"),
        *("metrics", "status", "ttft"),
    )

    def __init__(self, context: RequestContext, send: Send, metrics: RequestMetrics) -> None:
        self.context, self._send, self.metrics = context, send, metrics
        self.status = 0
        self.is_complete = False
        self.has_client_left = False
        self.ttft: float | None = None

    def receive_from(self, receive: Receive) -> Receive:
        """`receive`, noting a client that leaves before its answer is complete: vLLM's routes then
        still finish a response, which would look like a success."""

        async def receive_noted() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect" and not self.is_complete:
                self.has_client_left = True
            return message

        return receive_noted

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = message["headers"] = list(message.get("headers", ()))
            headers.append((b"x-request-id", self.context.id.encode()))
            if ticket := self.context.meter.ticket:
                headers.extend((k.encode(), v.encode()) for k, v in ticket.headers.items())
            self.context.is_stream = is_event_stream(message)
        elif message["type"] == "http.response.body":
            if self.context.is_stream and not (body := message.get("body", b"")).startswith(b":"):
                self.note_event(body)
            self.is_complete = not message.get("more_body", False)
        await self._send(message)

    def note_event(self, body: bytes) -> None:
        """An event of the stream goes out now. What comes before the first token (the Responses API
        announces itself), comments, and the end's marker do not count."""
        route = self.context.route
        if not self.context.meter.has_begun or route is None or not body or body.startswith(_DONE):
            return
        now, clock = perf_counter(), self.context.meter.clock
        if clock.gaps is None:  # its label looked up once, not for each event
            clock.gaps = self.metrics.inter_token_latency.labels(route.template)
            self.ttft = now - self.context.started
            self.metrics.time_to_first_token.labels(route.template).observe(self.ttft)
        else:
            clock.gaps.observe(now - clock.last_event_s)
        clock.last_event_s = now
