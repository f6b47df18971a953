"""A response under way that is written to past ASGI, by one who writes many at once."""

from collections.abc import Callable, MutableMapping
from typing import Any, Protocol

Scope = MutableMapping[str, Any]
# Where an ASGI scope's `extensions` have a function of the scope that returns the response, or None
# where nothing may be written past ASGI: it has not begun, or has no chunks.
EXTENSION = "gateway.raw_response"


class RawResponse(Protocol):
    @property
    def is_blocked(self) -> bool:
        """Whether the client reads too slowly to be sent more now."""

    def write(self, body: bytes) -> None:
        """A part of the body, now. Nothing, once the response is over or its client gone."""


def raw_response(scope: Scope) -> RawResponse | None:
    find: Callable[[Scope], RawResponse | None] | None = scope.get("extensions", {}).get(EXTENSION)
    return find(scope) if find is not None else None
