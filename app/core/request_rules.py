"""What we refuse of a request before vLLM sees it, by name, whatever vLLM would do with it."""

from collections.abc import Callable, Mapping
from typing import Any

from app.core.errors import InvalidRequest

Body = Mapping[str, Any]

# Headers through which a client would reach into the engine (scheduling, placement, sessions),
# the id that we set ourselves, and secrets, which end at the door. Lower case, as ASGI has them.
STRIPPED_HEADERS = frozenset(
    {
        b"x-vllm-priority",
        b"x-session-id",
        b"x-data-parallel-rank",
        b"x-request-id",
        b"x-kv-transfer-params",
        b"endpoint-load-metrics-format",
        b"authorization",
        b"x-api-key",
        b"cookie",
    }
)


def strip_headers(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """`headers` without those of STRIPPED_HEADERS and without any of vLLM's own prefix."""
    return [
        (name, value)
        for name, value in headers
        if name not in STRIPPED_HEADERS and not name.startswith(b"x-vllm-")
    ]


def check_responses(body: Body) -> None:
    """Responses are stateless here: vLLM's store is unbounded, per process, and knows no tenant."""
    if body.get("background"):
        raise InvalidRequest(
            "background responses are not served: nothing is stored between requests.",
            param="background",
            code="unsupported_parameter",
        )
    if body.get("previous_response_id") is not None:
        raise InvalidRequest(
            "previous_response_id is not served: nothing is stored between requests; send the "
            "earlier turns as input.",
            param="previous_response_id",
            code="unsupported_parameter",
        )


# The rules of a route, by its template; a route without an entry has none.
RULES: Mapping[str, Callable[[Body], None]] = {
    "/v1/responses": check_responses,
}


def check(template: str, body: Body) -> None:
    """Raises InvalidRequest where a rule of the route is broken."""
    if body.get("request_id") is not None:
        raise InvalidRequest(
            "request_id cannot be chosen by a client; send the header x-request-id to have an id "
            "of yours recorded.",
            param="request_id",
            code="unsupported_parameter",
        )
    if rule := RULES.get(template):
        rule(body)
