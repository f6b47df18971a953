"""Turns every failure into the envelope of its API family: raised ones, vLLM's own, and those in
the middle of a stream."""

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.context import RequestContext, context_of, is_event_stream
from app.core.envelopes import Family, render, render_event
from app.core.errors import InternalError, RequestError, Unavailable
from app.core.foreign_errors import adopt_body

logger = logging.getLogger("gateway.errors")

Translator = Callable[[Exception], RequestError]
STOPPED = Unavailable(
    "The service stopped before this request was done.", code="stopped", retry_after_s=2
)
# How vLLM's stream generators word an error, and how much of a foreign body we look at.
_ERROR_EVENTS = (b'data: {"error"', b"event: error")
_MAX_FOREIGN_BYTES = 65_536


class ErrorRendering:
    """`translate` words what the engine raises; RequestErrors speak for themselves."""

    def __init__(self, app: ASGIApp, translate: Translator) -> None:
        self.app = app
        self.translate = translate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        response = ErrorFilter(context_of(scope), send)
        try:
            await self.app(scope, receive, response.send)
        except RequestError as error:
            await response.fail(error)
        except asyncio.CancelledError:  # uvicorn gives up on what still runs at shutdown
            await response.fail(STOPPED)
            raise
        except Exception as error:
            adopted = self.translate(error)
            if adopted.status >= 500:
                level = logging.WARNING if adopted.status == 503 else logging.ERROR
                extra = {"request_id": response.context.id, "error": type(error).__name__}
                trace = error if isinstance(adopted, InternalError) else None
                logger.log(level, "a request failed", extra=extra, exc_info=trace)
            await response.fail(adopted)
        return None


class ErrorFilter:
    """Wraps `send`. Error responses that are not ours are held back and worded anew; the start of
    a stream is held back until its first event, so that what fails before it has a status."""

    def __init__(self, context: RequestContext, send: Send) -> None:
        self.context, self._send = context, send
        self._held: Message | None = None
        self._early: list[Message] = []
        self._body = b""
        self._has_started = self._is_stream = self._is_finished = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._is_stream = is_event_stream(message)
            if self._is_stream or (message["status"] >= 400 and self._is_foreign()):
                self._held = message
                return
            self._has_started = True
        elif self._is_stream:
            await self._pass_event(message)
            return
        elif self._held is not None:
            await self._collect(message)
            return
        await self._pass(message)

    async def _pass(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            self._is_finished = not message.get("more_body", False)
        await self._send(message)

    def _is_foreign(self) -> bool:
        """Our own routes answer as they mean to; a probe's 503 carries its reason."""
        route = self.context.route
        return route is None or route.needs_engine

    async def _collect(self, message: Message) -> None:
        if len(self._body) < _MAX_FOREIGN_BYTES:
            self._body += message.get("body", b"")
        if message.get("more_body", False) or self._held is None:
            return
        status, self._held = self._held["status"], None
        await self.fail(adopt_body(status, parse_body(self._body)))

    async def _pass_event(self, message: Message) -> None:
        if self._is_finished:
            return
        body = message.get("body", b"")
        error = read_error_event(body) if body.startswith(_ERROR_EVENTS) else None
        if error is not None:
            self.context.error_code = error.code
            if self._held is not None:
                await self.fail(error)
                return
            rest = body.partition(b"\n\n")[2]
            message = {**message, "body": render_event(self.context.family, error) + rest}
        if self._held is not None:
            self._early.append(message)
            if self._is_undecided() and message.get("more_body", False):
                return
            start, self._held = self._held, None
            self._has_started = True
            await self._send(start)
            for each in self._early:
                await self._pass(each)
            return
        await self._pass(message)

    def _is_undecided(self) -> bool:
        """Whether the request may still be refused by its limits: some streams begin before."""
        ticket = self.context.meter.ticket
        return ticket is not None and not ticket.is_decided

    async def fail(self, error: RequestError) -> None:
        """Answer with `error`: as a response, or as the last event of a stream that has begun.

        A refusal of ours is the error, whatever became of it on its way through vLLM.
        """
        ticket = self.context.meter.ticket
        error = (ticket and ticket.refusal) or error
        self.context.error_code = error.code
        if self._is_finished:
            return
        self._held = None
        if not self._has_started:
            await self._respond(error)
        elif self._is_stream:
            body = render_event(self.context.family, error)
            if self.context.family is Family.OPENAI:
                body += b"data: [DONE]\n\n"
            await self._send({"type": "http.response.body", "body": body})
        else:
            raise RuntimeError("a response failed half way; its connection is closed")

    async def _respond(self, error: RequestError) -> None:
        body = render(self.context.family, error, self.context.id)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        if error.retry_after_s is not None:
            headers.append((b"retry-after", str(error.retry_after_s).encode()))
        if error.status == 401:
            headers.append((b"www-authenticate", b'Bearer realm="w8a8-gateway"'))
        more = dict(error.headers)
        if self.context.has_unread_body:  # nobody will read it: the connection is of no more use
            more["connection"] = "close"
        headers.extend((name.encode(), value.encode()) for name, value in more.items())
        self._has_started = self._is_finished = True
        await self._send(
            {"type": "http.response.start", "status": error.status, "headers": headers}
        )
        await self._send({"type": "http.response.body", "body": body})


def read_error_event(event: bytes) -> RequestError:
    """What vLLM's stream generator says in an event that is an error."""
    found = parse_body(event.partition(b"\n\n")[0].partition(b"data: ")[2])
    inner = found.get("error")
    code = inner.get("code") if isinstance(inner, dict) else None
    return adopt_body(code if isinstance(code, int) else 500, found)


def parse_body(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`; an empty one where there is none."""
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
