"""Opens a ticket for each request with a key, and closes it however the request ends."""

import asyncio

from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.context import context_of, header_of
from app.api.deadline import Deadline
from app.core.admission import Admission, Ticket
from app.core.deadlines import TIMEOUT_HEADER, parse_timeout
from app.core.keys import Key, KeyRing
from app.core.meter import Meter


class Tenancy:
    """Stands behind the door, which knows the key. Without an admission there are no limits."""

    def __init__(self, app: ASGIApp, keys: KeyRing, admission: Admission | None) -> None:
        self.app, self.keys, self.admission = app, keys, admission

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        context = context_of(scope) if scope["type"] == "http" else None
        key = context.key if context else None
        if self.admission is None or context is None or key is None:
            return await self.app(scope, receive, send)
        meter = context.meter
        timeout_s = timeout_of(scope, key, self.admission.max_timeout_s)
        meter.ticket = ticket = self.admission.open(key, self.keys.tenant_of(key), timeout_s)
        try:
            if timeout_s is None:
                await self.app(scope, receive, send)
            else:
                deadline = Deadline(receive, send, timeout_s)
                await deadline.run(self.app, scope, ticket.expire)
        except asyncio.CancelledError:
            meter.answers.clear()  # the service ends, and nobody cancels vLLM's tasks before it
            raise
        finally:
            closing = close(meter, ticket)
            if meter.is_over and not ticket.is_entering:
                await closing  # nothing in it waits
            else:
                # What is held has to come back even where the request is being cancelled.
                await asyncio.shield(closing)
        return None


async def close(meter: Meter, ticket: Ticket) -> None:
    try:
        await meter.end()
    finally:
        await ticket.close(meter.completion_tokens)


def timeout_of(scope: Scope, key: Key, most_s: float) -> float | None:
    """What the client says, or its key. Raises InvalidRequest for what cannot be used."""
    if (given := header_of(scope, TIMEOUT_HEADER.encode())) is not None:
        return parse_timeout(given, most_s)
    return None if key.timeout_ms is None else min(key.timeout_ms / 1000, most_s)
