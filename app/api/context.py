"""What the gateway knows of the request in hand; travels in the ASGI scope."""

import secrets
from dataclasses import dataclass, field
from time import perf_counter

from starlette.types import Message, Scope

from app.core.envelopes import Family
from app.core.keys import Key
from app.core.meter import Meter
from app.core.routes import Route

SCOPE_KEY = "gateway.request"


@dataclass(slots=True)
class RequestContext:
    """Filled in by one middleware after another; read at the end by the observation."""

    id: str = field(default_factory=lambda: secrets.token_hex(16))
    started: float = field(default_factory=perf_counter)
    client_request_id: str = ""
    family: Family = Family.OPENAI
    route: Route | None = None
    key: Key | None = None
    meter: Meter = field(default_factory=Meter)
    is_stream: bool = False
    has_unread_body: bool = False
    error_code: str = ""
    trace_headers: list[tuple[bytes, bytes]] = field(default_factory=list)  # for the engine


def context_of(scope: Scope) -> RequestContext:
    context: RequestContext = scope[SCOPE_KEY]
    return context


def header_of(scope: Scope, name: bytes) -> bytes | None:
    """The first header of that name (lower case)."""
    for key, value in scope["headers"]:
        if key == name:
            found: bytes = value
            return found
    return None


def is_event_stream(start: Message) -> bool:
    """Whether the response that `start` begins is a stream of events."""
    for name, value in start.get("headers", ()):
        if name == b"content-type":
            return bool(value.startswith(b"text/event-stream"))
    return False
