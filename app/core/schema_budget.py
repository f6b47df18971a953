"""Budgets of a JSON schema, counted before any compiler sees it."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from app.core.errors import InvalidRequest
from app.core.limits import RequestLimits
from app.core.regex_budget import written_out

_ALTERNATIVES = ("enum", "anyOf", "oneOf", "allOf", "prefixItems")
_COUNTS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")
# References that are not followed by pointer; no compiler of ours knows them.
_FOREIGN = ("$dynamicRef", "$recursiveRef")


def check_schema(schema: Any, where: str, limits: RequestLimits) -> None:
    """Raises InvalidRequest naming `where` for a schema that is over a budget, or whose references
    lead outside, nowhere, or round in a circle."""
    size = len(json.dumps(schema))
    if size > limits.max_schema_bytes:
        raise over(where, "bytes", size, limits.max_schema_bytes)
    num_alternatives = 0
    for node, depth in walk(schema):
        if depth > limits.max_schema_depth:
            raise over(where, "levels", depth, limits.max_schema_depth)
        if not isinstance(node, dict):
            continue
        for name in _ALTERNATIVES:
            num_alternatives += len(node[name]) if isinstance(node.get(name), list) else 0
        check_counts(node, where, limits)
        check_patterns(node, where, limits)
        if any(name in node for name in _FOREIGN):
            raise unsupported(where, "of references, only $ref is served")
    if num_alternatives > limits.max_schema_alternatives:
        raise over(where, "alternatives", num_alternatives, limits.max_schema_alternatives)
    check_references(schema, where)


def walk(schema: Any) -> Iterator[tuple[Any, int]]:
    """Every array and object of a JSON value, with its depth; the outermost has depth 1."""
    pending = [(schema, 1)]
    while pending:
        node, depth = pending.pop()
        if isinstance(node, (dict, list)):
            yield node, depth
            inner = node.values() if isinstance(node, dict) else node
            pending.extend((each, depth + 1) for each in inner)


def check_counts(node: dict[str, Any], where: str, limits: RequestLimits) -> None:
    for name in _COUNTS:
        count = node.get(name)
        if isinstance(count, (int, float)) and not 0 <= count <= limits.max_repetition:
            raise InvalidRequest(
                f"{where}: {name} has to be from 0 to {limits.max_repetition}.",
                param=where,
                code="schema_too_complex",
            )


def check_patterns(node: dict[str, Any], where: str, limits: RequestLimits) -> None:
    if isinstance(pattern := node.get("pattern"), str):
        check_regex(pattern, where, limits)
    if isinstance(patterns := node.get("patternProperties"), dict):
        for each in patterns:
            check_regex(each, where, limits)


def check_regex(pattern: str, where: str, limits: RequestLimits) -> None:
    if len(pattern) > limits.max_regex_chars:
        raise over(where, "characters in a pattern", len(pattern), limits.max_regex_chars)
    size = written_out(pattern)
    if size > limits.max_repetition:
        raise over(where, "repetitions in a pattern", size, limits.max_repetition)


def check_references(root: Any, where: str) -> None:
    """A reference has to lead somewhere; through references and choices alone, not back to itself:
    such a schema says nothing, and a compiler follows it for ever. Linear: each node is left once.
    """
    left: set[int] = set()
    for start, _ in walk(root):
        if not isinstance(start, dict) or id(start) in left:
            continue
        entered = {id(start)}
        path = [(start, alternatives_of(root, start, where))]
        while path:
            node, targets = path[-1]
            target = next(targets, None)
            if target is None:
                path.pop()
                entered.discard(id(node))
                left.add(id(node))
            elif id(target) in entered:
                raise unsupported(where, "a $ref leads back to itself")
            elif id(target) not in left:
                entered.add(id(target))
                path.append((target, alternatives_of(root, target, where)))


def alternatives_of(root: Any, node: dict[str, Any], where: str) -> Iterator[dict[str, Any]]:
    """The schemas that stand for `node` itself, no character of the answer in between."""
    if isinstance(pointer := node.get("$ref"), str):
        target = resolve(root, pointer, where)
        if isinstance(target, dict):
            yield target
    for name in ("anyOf", "oneOf", "allOf"):
        if isinstance(inner := node.get(name), list):
            yield from (each for each in inner if isinstance(each, dict))


def resolve(root: Any, pointer: str, where: str) -> Any:
    """What a local JSON pointer (RFC 6901) points at. Raises InvalidRequest for any other."""
    here = root
    steps = pointer.removeprefix("#").split("/")
    is_local = pointer.startswith("#") and not steps[0]
    for step in steps[1:] if is_local else ():
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(here, list) and name.isascii() and name.isdigit() and len(name) < 7:
            here = here[int(name)] if int(name) < len(here) else None
        else:
            here = here.get(name) if isinstance(here, dict) else None
    if not is_local or here is None:
        raise unsupported(where, f"$ref {pointer[:60]!r} is nothing inside of the schema")
    return here


def over(where: str, unit: str, count: int, most: int) -> InvalidRequest:
    return InvalidRequest(
        f"{where} has {count} {unit}; it may have {most}.", param=where, code="schema_too_complex"
    )


def unsupported(where: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"{where}: {reason}.", param=where, code="unsupported_schema")
