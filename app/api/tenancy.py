"""Opens a ticket for each request with a key, and closes it however the request ends."""

import asyncio

from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.context import context_of
from app.core.admission import Admission
from app.core.keys import KeyRing


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
        meter.ticket = ticket = self.admission.open(key, self.keys.tenant_of(key))
        try:
            await self.app(scope, receive, send)
        finally:
            # Shielded: what is held has to come back even where the request is being cancelled.
            await asyncio.shield(ticket.close(meter.completion_tokens))
        return None
