"""Makes a route's request model stop at the first wrong entry of a list.

Only the first mistake is answered anyway, and pydantic is on the event loop: 2,048 wrong items of a
Responses input, 70 KB, took it ten seconds, as it tried each against thirty types and described the
half a million mistakes.
"""

from typing import Any

from fastapi.routing import APIRoute
from pydantic_core import SchemaValidator

_LISTS = ("list", "tuple", "set", "frozenset")


def stop_at_first_mistake(route: APIRoute) -> None:
    """Build the validator of the route's body anew, from its own schema."""
    if route.body_field is not None:
        adapter = route.body_field._type_adapter
        fail_fast(adapter.core_schema)
        adapter.validator = SchemaValidator(adapter.core_schema, _use_prebuilt=False)


def fail_fast(schema: Any) -> None:
    """Mark every list within a schema of pydantic's core."""
    pending = [schema]
    while pending:
        each = pending.pop()
        if isinstance(each, dict):
            if each.get("type") in _LISTS:
                each["fail_fast"] = True
            pending.extend(each.values())
        elif isinstance(each, list | tuple):
            pending.extend(each)
