"""How an error looks on the wire, per API family. The only place that renders one."""

import json
from enum import StrEnum

from app.core.errors import RequestError

# No error body is larger, whatever it quotes (vllm#49239: 114 MB from a few KB).
MAX_ERROR_BYTES = 2048
_MAX_SENTENCE = 800
_MAX_PARAM = 120

# Anthropic's own names: https://docs.anthropic.com/en/api/errors
_ANTHROPIC_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
}


class Family(StrEnum):
    OPENAI = "openai"
    ANTHROPIC = "anthropic"


def render(family: Family, error: RequestError, request_id: str = "") -> bytes:
    """The JSON body of an error response, at most MAX_ERROR_BYTES long."""
    sentence = shorten(error.sentence, _MAX_SENTENCE)
    body = encode(envelope(family, error, sentence, request_id))
    if len(body) > MAX_ERROR_BYTES:  # escapes can make a character six bytes long
        body = encode(envelope(family, error, shorten(sentence, 200), request_id))
    return body


def encode(envelope_object: dict[str, object]) -> bytes:
    return json.dumps(envelope_object, separators=(",", ":")).encode()


def render_event(family: Family, error: RequestError) -> bytes:
    """The same error as the last event of a stream that has begun."""
    body = render(family, error)
    if family is Family.ANTHROPIC:
        return b"event: error\ndata: " + body + b"\n\n"
    return b"data: " + body + b"\n\n"


def envelope(
    family: Family, error: RequestError, sentence: str, request_id: str
) -> dict[str, object]:
    if family is Family.ANTHROPIC:
        kind = _ANTHROPIC_KINDS.get(error.status, "invalid_request_error")
        body: dict[str, object] = {"type": "error", "error": {"type": kind, "message": sentence}}
        return body | ({"request_id": request_id} if request_id else {})
    param = shorten(error.param, _MAX_PARAM) if error.param else None
    return {"error": {"message": sentence, "type": error.kind, "param": param, "code": error.code}}


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters, control characters and lone surrogates made harmless."""
    clean = "".join(char if char.isprintable() else " " for char in text[: limit + 1])
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"
