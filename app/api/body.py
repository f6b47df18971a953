"""Reads a request's body once, bounded in size and time, and refuses what is not proper JSON."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.context import RequestContext, context_of, header_of
from app.core.body_room import BodyRoom, HeldBody
from app.core.client_connection import ClientConnection, connection_of
from app.core.constraints import Constraint
from app.core.errors import InvalidRequest, RequestError
from app.core.parsed_body import hand_on
from app.core.request_rules import RequestRules
from app.core.routes import Route
from app.core.strict_json import parse_object
from app.core.turns import Turns

# A larger body is checked in a thread, so that streams go on meanwhile: 2 MB of tools take 0.1 s.
# In one thread: several would keep the event loop waiting for the interpreter's lock, 5 ms each.
_MAX_INLINE_BYTES = 16_384
# Of a tenant's bodies in hand together, not counting shorter ones; two of the longest at least.
MAX_HELD_BYTES = 1 << 28


class ClientGone(Exception):
    """The client left before its body was there; nobody is left to answer."""


@dataclass(frozen=True)
class CheckedBody:
    """`body` is `fields` as JSON: the client's own bytes where nothing was left out."""

    fields: dict[str, Any]
    body: bytes
    constraints: Sequence[Constraint]


class JsonBody:
    def __init__(
        self,
        app: ASGIApp,
        max_bytes: int,
        timeout_s: float,
        rules: RequestRules,
        try_constraints: Callable[[Sequence[Constraint], str | None], Awaitable[None]],
    ) -> None:
        self.app, self.max_bytes, self.timeout_s, self.rules = app, max_bytes, timeout_s, rules
        self.try_constraints = try_constraints
        self.checker, self.turns = ThreadPoolExecutor(1, "body"), Turns(1)
        self.room = BodyRoom(max(MAX_HELD_BYTES, 2 * max_bytes))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        context = context_of(scope) if scope["type"] == "http" else None
        route = context.route if context else None
        if context is None or route is None or route.method != "POST" or not route.needs_engine:
            return await self.app(scope, receive, send)  # nothing reads a body there
        self.check_headers(scope)
        tenant = context.key.tenant if context.key else None
        held = self.room.open(tenant)
        try:
            body = await self.receive_body(connection_of(scope), receive, held)
            context.has_unread_body = False
            checked = await self.check_body(context, route, body, tenant)
            if checked.body is not body:
                body = checked.body
                scope = {**scope, "headers": with_length(scope["headers"], len(body))}
            context.meter.note_asked(checked.fields)
            if len(body) <= _MAX_INLINE_BYTES:  # a longer one is judged by those who stop early
                hand_on(scope, checked.fields)
            await self.app(scope, replay(body, receive), send)
        except ClientGone:
            pass
        finally:
            held.end()
        return None

    async def check_body(
        self, context: RequestContext, route: Route, body: bytes, tenant: str | None
    ) -> CheckedBody:
        check = partial(self.check, context, route, body)
        if len(body) <= _MAX_INLINE_BYTES:
            checked = check()
        else:
            checked = await self.in_turn(tenant, check)
        if checked.constraints:
            await self.try_constraints(checked.constraints, tenant)
        return checked

    async def in_turn(self, tenant: str | None, check: Callable[[], CheckedBody]) -> CheckedBody:
        """In the thread. Tenants take turns: who sends many long bodies keeps nobody else's."""
        turn = self.turns.join(tenant)
        try:
            await turn.has_come.wait()
            return await asyncio.get_running_loop().run_in_executor(self.checker, check)
        finally:
            self.turns.leave(turn)

    def check(self, context: RequestContext, route: Route, body: bytes) -> CheckedBody:
        """Parse it, and refuse what the key or the rules refuse."""
        given = parse_object(body)
        if context.key is not None:
            context.key.check_model(given)
        ticket = context.meter.ticket
        rules = self.rules.of(each.limits for each in ticket.owners) if ticket else self.rules
        fields = rules.check(route.template, given, len(body))
        constraints = rules.constraints_of(fields)
        if fields is not given:
            body = json.dumps(fields).encode()
        return CheckedBody(fields, body, constraints)

    def check_headers(self, scope: Scope) -> None:
        """What the headers already tell: wrong type, compressed, too large."""
        if (header_of(scope, b"content-encoding") or b"identity").lower() != b"identity":
            raise InvalidRequest(
                "Compressed bodies are not taken.", status=415, code="unsupported_encoding"
            )
        # Any number of zeros may lead it, and Python reads no more than 4,300 digits.
        length = (header_of(scope, b"content-length") or b"").lstrip(b"0")
        if length.isdigit() and (len(length) > 18 or int(length) > self.max_bytes):
            raise self.too_large()
        media_type = (header_of(scope, b"content-type") or b"").partition(b";")[0].strip()
        if media_type.lower() != b"application/json":
            raise InvalidRequest(
                "The body has to be JSON, with `Content-Type: application/json`.",
                status=415,
                code="unsupported_media_type",
            )

    async def receive_body(
        self, client: ClientConnection | None, receive: Receive, held: HeldBody
    ) -> bytes:
        """The whole body. Raises ClientGone."""
        if client is not None and client.has_sent_all:
            return await self.read(receive, held)
        try:
            async with asyncio.timeout(self.timeout_s):
                return await self.read(receive, held)
        except TimeoutError:
            raise RequestError(
                f"The body was not there within {self.timeout_s:g} s.",
                status=408,
                code="body_timeout",
            ) from None

    async def read(self, receive: Receive, held: HeldBody) -> bytes:
        """Stops at the first byte too many."""
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > self.max_bytes:
                raise self.too_large()
            if size > _MAX_INLINE_BYTES:
                held.grow_to(size)
            chunks.append(chunk)
            if not message.get("more_body", False):
                return b"".join(chunks)

    def too_large(self) -> RequestError:
        return RequestError(
            f"The body is larger than limits.max_body_bytes ({self.max_bytes} bytes).",
            status=413,
            code="request_too_large",
        )


def with_length(headers: list[tuple[bytes, bytes]], num_bytes: int) -> list[tuple[bytes, bytes]]:
    """`headers` of a body that is now `num_bytes` long."""
    others = [each for each in headers if each[0] not in (b"content-length", b"transfer-encoding")]
    return [*others, (b"content-length", str(num_bytes).encode())]


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body in one message, then whatever comes after it."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_replayed() -> Message:
        return pending.pop() if pending else await receive()

    return receive_replayed
