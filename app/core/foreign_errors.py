"""Errors that vLLM words itself, adopted into our tree. The only place that reads its wording."""

import re
from collections.abc import Mapping
from typing import Any

from app.core.errors import InternalError, InvalidRequest, NotFound, RequestError, Unavailable

RETRY_AFTER_S = 5
# vLLM appends these to the sentence; the field has its own place in our envelope, and the value is
# the client's input.
_PARAMETER = re.compile(
    r" ?\((?:parameter=(?P<name>[\w.\[\]]+))?(?:, )?(?:value=.*)?\)\s*$", re.DOTALL
)
_NAMED_FIRST = re.compile(r"`?([a-z][a-z_]*)`?(?:=\S+)? (?:must|cannot|should)\b")
_KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def adopt(status: int, message: str, param: str | None = None) -> RequestError:
    """Our error for one of vLLM's: its status and sentence, our codes."""
    if found := _PARAMETER.search(message):
        message = message[: found.start()]
        param = param or found["name"]
    elif param is None and (named := _NAMED_FIRST.match(message)):
        param = named[1]
    if status == 404:
        code = "model_not_found" if "model" in message.lower() else "not_found"
        return NotFound(message, code=code, param=param or ("model" if "model" in code else None))
    if status == 503:
        return Unavailable(message, code="overloaded", retry_after_s=RETRY_AFTER_S)
    if status == 501:
        return InvalidRequest(message, status=501, code="not_supported", param=param)
    if status >= 500:
        return InternalError("The server failed to answer this request.", status=status)
    error = InvalidRequest(message, status=status, param=param, code=code_of(message))
    error.kind = _KINDS.get(status, error.kind)
    return error


def code_of(message: str) -> str:
    lowered = message.lower()
    if any(words in lowered for words in ("context length", "model length", "max_model_len")):
        return "context_length_exceeded"
    return "invalid_request"


def adopt_body(status: int, body: Mapping[str, Any]) -> RequestError:
    """The error in a JSON body from vLLM or FastAPI, whichever API's shape it has."""
    inner = body.get("error")
    if isinstance(inner, dict):
        param = inner.get("param")
        return adopt(
            status, str(inner.get("message", "")), param if isinstance(param, str) else None
        )
    return adopt(status, str(body.get("detail") or "The request was refused."))
