"""JSON as the service takes it: bounded in depth, without the extensions Python's parser allows."""

import json
import math
import re
from typing import Any

from app.core.errors import InvalidRequest

MAX_DEPTH = 64
_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)


class _Refused(ValueError):
    """Found while parsing; becomes an InvalidRequest outside."""


def parse_object(body: bytes) -> dict[str, Any]:
    """The object that a request's body holds.

    Raises InvalidRequest for anything but one JSON object in UTF-8, and for duplicate keys, NaN and
    Infinity, integers too long to read, lone surrogates, and nesting deeper than MAX_DEPTH.
    """
    if depth_of(body) > MAX_DEPTH:
        raise InvalidRequest(
            f"The body is nested deeper than {MAX_DEPTH} levels.", code="json_too_deep"
        )
    try:
        text = body.decode("utf-8")
        value = json.loads(
            text, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_unique_keys
        )
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeError:
        raise InvalidRequest(
            "The body is not valid UTF-8, or names half of a surrogate pair.", code="invalid_utf8"
        ) from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise InvalidRequest(
            f"The body is not valid JSON: {error.msg} at {where}.", code="invalid_json"
        ) from None
    except ValueError as error:
        sentence = str(error) if isinstance(error, _Refused) else "a number is too long to read"
        raise InvalidRequest(
            f"The body is not valid JSON: {sentence}.", code="invalid_json"
        ) from None
    if not isinstance(value, dict):
        raise InvalidRequest("The body has to be a JSON object.", code="invalid_json")
    return value


def depth_of(body: bytes) -> int:
    """The deepest nesting of brackets outside strings; one pass, no recursion."""
    deepest = depth = 0
    for match in _BRACKETS.finditer(body):
        first = match.group()[0]
        if first in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif first in b"]}":
            depth -= 1
    return deepest


def _refuse(constant: str) -> None:
    raise _Refused(f"{constant} is not a JSON number")


def _finite(literal: str) -> float:
    value = float(literal)
    if math.isinf(value):
        raise _Refused(f"the number {literal[:40]} is too large")
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Refused(f"the key {twice[:40]!r} stands there twice")
    return found
