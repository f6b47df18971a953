"""JSON as the service takes it: bounded in depth, without the extensions Python's parser allows."""

import json
import math
from collections import Counter
from typing import Any

from app.core.errors import InvalidRequest

MAX_DEPTH = 64
# Parsing is on the event loop, and its cost goes by these, not by bytes: together at most some
# 0.1 s, however large a body may be.
MAX_CONTAINERS = 20_000
MAX_KEYS = 16_000
MAX_STRINGS = 100_000
MAX_VALUES = 300_000
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


class _Refused(ValueError):
    """Found while parsing; becomes an InvalidRequest outside."""


def parse_object(body: bytes) -> dict[str, Any]:
    """The object that a request's body holds.

    Raises InvalidRequest for anything but one JSON object in UTF-8, and for duplicate keys, NaN and
    Infinity, integers too long to read, lone surrogates, and what check_structure refuses.
    """
    check_structure(body)
    try:
        text = body.decode("utf-8")
        if text.startswith("\ufeff"):
            raise json.JSONDecodeError("Unexpected UTF-8 BOM (decode using utf-8-sig)", text, 0)
        value = _DECODER.decode(text)
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


def check_structure(body: bytes) -> None:
    """Raises InvalidRequest for too many parts or too deep a nesting, before anything is parsed.

    Passes in C over the bytes: with escapes taken out, every quote left bounds a string, and what
    is outside of strings is the structure. Most bodies have too few bytes and brackets for that.
    """
    if len(body) <= 4 * MAX_KEYS and body.count(b"{") + body.count(b"[") <= MAX_DEPTH:
        return
    plain = body.replace(rb"\\", b"").replace(rb"\"", b"")
    if plain.count(b'"') > 2 * MAX_STRINGS:
        raise _too_many("strings", MAX_STRINGS)
    structure = b"".join(plain.split(b'"')[::2])
    if structure.count(b":") > MAX_KEYS:
        raise _too_many("keys", MAX_KEYS)
    if structure.count(b",") > MAX_VALUES:
        raise _too_many("values", MAX_VALUES)
    brackets = structure.translate(None, _NO_BRACKETS)
    if len(brackets) > 2 * MAX_CONTAINERS:
        raise _too_many("arrays and objects", MAX_CONTAINERS)
    if depth_of(brackets) > MAX_DEPTH:
        raise InvalidRequest(
            f"The body is nested deeper than {MAX_DEPTH} levels.", code="json_too_deep"
        )


def depth_of(brackets: bytes) -> int:
    """The deepest nesting of a row of brackets."""
    deepest = depth = 0
    for bracket in brackets:
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _too_many(what: str, most: int) -> InvalidRequest:
    return InvalidRequest(f"The body has more than {most} {what}.", code="json_too_large")


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
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise _Refused(f"the key {twice[:40]!r} stands there twice")
    return found


# Made once: a decoder costs as much as parsing a short body does.
_DECODER = json.JSONDecoder(
    parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_unique_keys
)
