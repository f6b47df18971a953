"""Makes a route's request model cheap: pydantic is on the event loop.

It stops at the first wrong entry of a list, as only the first mistake is answered anyway: 2,048
wrong items of a Responses input, 70 KB, took ten seconds, as each was tried against thirty types
and half a million mistakes were described. And the entries of a list are tried against no type that
the service refuses (images, computer calls, ...): 1,024 good messages took 60 ms, and take 10.
"""

from collections.abc import Iterator
from typing import Any

from fastapi.routing import APIRoute
from pydantic_core import SchemaValidator

from app.core.request_content import SERVED_KINDS

_LISTS = ("list", "tuple", "set", "frozenset")


def lighten(route: APIRoute) -> None:
    """Build the validator of the route's body anew, from its own schema."""
    if route.body_field is not None:
        adapter = route.body_field._type_adapter
        for each in lists_in(adapter.core_schema):
            each["fail_fast"] = True
            keep_served(each.get("items_schema"))
        adapter.validator = SchemaValidator(adapter.core_schema, _use_prebuilt=False)


def lists_in(schema: Any) -> Iterator[dict[str, Any]]:
    """Every list within a schema of pydantic's core."""
    pending = [schema]
    while pending:
        each = pending.pop()
        if isinstance(each, dict):
            if each.get("type") in _LISTS:
                yield each
            pending.extend(each.values())
        elif isinstance(each, list | tuple):
            pending.extend(each)


def keep_served(schema: Any) -> None:
    """Take the kinds that are refused out of a choice, and out of those inside of it."""
    while isinstance(schema, dict) and schema.get("type") != "union":
        schema = schema.get("schema")
    if not isinstance(schema, dict):
        return
    if kept := [each for each in schema["choices"] if is_served(each)]:
        schema["choices"] = kept
    for each in kept:
        keep_served(bare(each))


def is_served(choice: Any) -> bool:
    """Whether the `type` of such an entry may be one that is served."""
    schema = bare(choice)
    while "fields" not in schema and isinstance(schema.get("schema"), dict):
        schema = schema["schema"]
    fields = schema.get("fields")
    kind = fields.get("type") if isinstance(fields, dict) else None
    while isinstance(kind, dict) and "expected" not in kind:
        kind = kind.get("schema")
    return kind is None or not SERVED_KINDS.isdisjoint(kind["expected"])


def bare(choice: Any) -> dict[str, Any]:
    """A choice without the label that it may have."""
    schema: dict[str, Any] = choice[0] if isinstance(choice, tuple) else choice
    return schema
