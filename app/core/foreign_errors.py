"""Errors that vLLM words itself, adopted into our tree. The only place that reads its wording."""

import re
from collections.abc import Mapping
from typing import Any

from app.core.envelopes import shorten
from app.core.errors import InternalError, InvalidRequest, NotFound, RequestError, Unavailable

RETRY_AFTER_S = 5
# vLLM appends these to the sentence; the field has its own place in our envelope, and the value is
# the client's input.
_PARAMETER = re.compile(
    r" ?\((?:parameter=(?P<name>[\w.\[\]]+))?(?:, )?(?:value=.*)?\)\s*$", re.DOTALL
)
_NAMED_FIRST = re.compile(r"`?([a-z][a-z_]*)`?(?:=\S+)? (?:must|cannot|should)\b")
# vLLM answers a ValueError of whatever library with its text; such a text is for the log.
_INSIDE = re.compile(
    r"Traceback|\bFile \"|site-packages|\.(?:py|cc|cpp|so)\b|<class |\bobject at 0x|'\w+' object"
    r"|\b(?:vllm|torch|pydantic|xgrammar|transformers|jinja2)\.\w|\bVLLM\w*Error|EngineCore|AsyncLLM"
)
_CLASS = re.compile(r" or (?:an )?instance of \w+")  # pydantic's own words name the model
_MAX_FOREIGN_CHARS = 300
_MAX_SEARCHED_CHARS = 2000
_KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def adopt(status: int, message: str, param: str | None = None) -> RequestError:
    """Our error for one of vLLM's: its status and sentence, our codes."""
    message = message[:_MAX_SEARCHED_CHARS]
    if found := _PARAMETER.search(message):
        message = message[: found.start()]
        param = param or found["name"]
    elif param is None and (named := _NAMED_FIRST.match(message)):
        param = named[1]
    sentence = foreign(message)
    if status == 404:
        code = "model_not_found" if "model" in message.lower() else "not_found"
        return NotFound(sentence, code=code, param=param or ("model" if "model" in code else None))
    if status == 503:
        return Unavailable(sentence, code="overloaded", retry_after_s=RETRY_AFTER_S)
    if status == 501:
        return InvalidRequest(sentence, status=501, code="not_supported", param=param)
    if status >= 500:
        return InternalError("The server failed to answer this request.", status=status)
    error = InvalidRequest(sentence, status=status, param=param, code=code_of(message))
    error.kind = _KINDS.get(status, error.kind)
    return error


def foreign(sentence: str) -> str:
    """What a client may read of a sentence that is not ours: no more than a short excerpt of its
    input, and nothing where it tells of the inside."""
    if _INSIDE.search(sentence, 0, _MAX_SEARCHED_CHARS):
        return "The request cannot be served as it is."
    return shorten(_CLASS.sub("", sentence), _MAX_FOREIGN_CHARS)


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
