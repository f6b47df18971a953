"""What the server knows of a request's client, told past ASGI: asking by its messages takes a task
that waits for them, or a timer."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

CLIENT = "gateway.client"  # in the scope


class ClientConnection(Protocol):
    @property
    def has_sent_all(self) -> bool:
        """Whether the whole body of the request has come."""

    def when_left(self, tell: Callable[[], None] | None) -> None:
        """`tell` is called, once and by the event loop, when the client is gone before its answer
        is complete. Takes the place of who was to be told before; None: nobody."""


def connection_of(scope: Mapping[str, Any]) -> ClientConnection | None:
    """None where messages have to be waited for."""
    connection: ClientConnection | None = scope.get(CLIENT)
    return connection


def unconnected(scope: Mapping[str, Any]) -> dict[str, Any]:
    """`scope` for those who are to hear from `receive` alone that the client is gone."""
    return {**scope, CLIENT: None}
