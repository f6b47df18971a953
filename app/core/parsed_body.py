"""A request's body, parsed and checked: handed on in the ASGI scope, so nobody parses it again."""

from collections.abc import Mapping, MutableMapping
from typing import Any

_KEY = "gateway.body"


def hand_on(scope: MutableMapping[str, Any], fields: dict[str, Any]) -> None:
    scope[_KEY] = fields


def parsed_body(scope: Mapping[str, Any]) -> dict[str, Any] | None:
    """The fields of the body; None where nobody has parsed it. Not to be changed: whoever changes
    it reads the body's bytes."""
    fields: dict[str, Any] | None = scope.get(_KEY)
    return fields
