"""/openapi.json as it is: vLLM's models, less what is refused here, with our bounds and errors."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.core.envelopes import Family
from app.core.limits import RequestLimits
from app.core.request_bounds import MAX_METADATA, MAX_MODEL_CHARS
from app.core.request_content import ROLES, SERVED_KINDS
from app.core.request_fields import TABLES, FieldTable
from app.core.routes import ROUTES, Route

Schema = dict[str, Any]
REFERENCE = "#/components/schemas/"
_CONVERSATION = ("messages", "input", "system", "tools")
_SECURITY: list[Schema] = [{"bearer": []}, {"apiKey": []}]
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}
_TEXT = {"type": "string"}
_OPENAI_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                **{"message": _TEXT, "type": _TEXT, "code": _TEXT},
                "param": {"type": ["string", "null"]},
            },
        }
    },
}
_ANTHROPIC_ERROR = {
    "type": "object",
    "required": ["type", "error"],
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {"type": _TEXT, "message": _TEXT},
        },
        "request_id": _TEXT,
    },
}
_ERRORS = {Family.OPENAI: "GatewayError", Family.ANTHROPIC: "GatewayErrorOfMessages"}
_MEANINGS = {
    400: "The request cannot be used; the message names the field",
    401: "No key, or one that is not known or has expired",
    403: "The key lacks the scope",
    404: "No such route or model",
    408: "The body was not there in time",
    413: "The body is too large",
    415: "The body is no JSON, or compressed",
    429: "A quota of the key or its tenant is used up; see Retry-After",
    500: "The server failed",
    501: "Not served: nothing is stored",
    503: "Not now; see Retry-After",
    504: "The request's deadline passed while it was worked on",
}


_COUNTED = {
    **{"messages": "max_messages", "input": "max_messages", "tools": "max_tools"},
    **{"stop": "max_stop", "stop_sequences": "max_stop", "bad_words": "max_bad_words"},
    **{"stop_token_ids": "max_token_ids", "logit_bias": "max_logit_bias", "prompt": "max_prompts"},
}


def describe(app: FastAPI, limits: RequestLimits) -> Schema:
    """The document of `app`, made once and kept there."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes)
        app.openapi_schema = refine(document, limits)
    return app.openapi_schema


def refine(document: Schema, limits: RequestLimits) -> Schema:
    components = document.setdefault("components", {})
    schemas: dict[str, Schema] = components.setdefault("schemas", {})
    schemas[_ERRORS[Family.OPENAI]] = _OPENAI_ERROR
    schemas[_ERRORS[Family.ANTHROPIC]] = _ANTHROPIC_ERROR
    components["securitySchemes"] = _SCHEMES
    for route in ROUTES:
        operation = document["paths"].get(route.template, {}).get(route.method.lower())
        if operation is None:
            continue
        describe_answers(operation, route)
        if route.scope is not None:
            operation["security"] = _SECURITY
        if table := TABLES.get(route.template):
            for model in models_of(operation, schemas):
                describe_fields(model, table, limits)
                for name in _CONVERSATION:
                    keep_served(model["properties"].get(name, {}), schemas)
    components["schemas"] = {
        name: schemas[name] for name in sorted(reachable(document["paths"], schemas))
    }
    return document


def describe_answers(operation: Schema, route: Route) -> None:
    """Errors as we word them. Ours are the statuses of the door and of the body; the rest of the
    engine's routes."""
    statuses = [] if route.scope is None else [401, 403]
    if route.needs_engine:
        statuses += [404, 500, 503]
    if route.method == "POST" and route.needs_engine:
        statuses += [400, 408, 413, 415, 429, 504]
    if route.template.startswith("/v1/responses/"):
        statuses += [501]
    good = {code: answer for code, answer in operation["responses"].items() if code == "200"}
    content = {"application/json": {"schema": {"$ref": REFERENCE + _ERRORS[route.family]}}}
    errors = {
        str(status): {"description": _MEANINGS[status], "content": content}
        for status in sorted(statuses)
    }
    if route.is_open:  # probes say why in words of their own
        errors["503"] = {"description": "Not well, or not ready; the reason is in the body"}
    operation["responses"] = ({} if 501 in statuses else good) | errors


def models_of(operation: Schema, schemas: Mapping[str, Schema]) -> list[Schema]:
    """The request models of a route; /tokenize has two."""
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    return [schemas[each["$ref"].removeprefix(REFERENCE)] for each in body.get("anyOf", [body])]


def describe_fields(model: Schema, table: FieldTable, limits: RequestLimits) -> None:
    """Leave the fields that are taken, with their bounds."""
    taken = table.taken | (table.guarded & limits.open_fields)
    model["properties"] = {
        name: value | bounds_of(name, limits)
        for name, value in model["properties"].items()
        if name in taken
    }
    model["additionalProperties"] = limits.ignores_unknown_fields


def bounds_of(name: str, limits: RequestLimits) -> Schema:
    """In JSON schema a bound on numbers says nothing of texts, and so on."""
    ranges = limits.ranges
    found: Schema = {}
    if name in ranges:
        found["minimum"], found["maximum"] = ranges[name]
    if name in _COUNTED:
        found["maxItems"] = found["maxProperties"] = getattr(limits, _COUNTED[name])
    if name in ("messages", "input"):
        found["minItems"] = 1
    if name == "metadata":
        found["maxProperties"] = MAX_METADATA
    found["maxLength"] = MAX_MODEL_CHARS if name == "model" else limits.max_chars
    return found


def keep_served(schema: Any, schemas: dict[str, Schema]) -> None:
    """Take the kinds of messages, parts and tools that are refused out of every choice below."""
    pending, seen = [schema], set[str]()
    while pending:
        each = pending.pop()
        if isinstance(each, list):
            pending.extend(each)
        elif isinstance(each, dict):
            for choice in ("anyOf", "oneOf"):
                if choice in each:
                    each[choice] = [one for one in each[choice] if is_served(one, schemas)]
            each.pop("discriminator", None)  # it names what is gone
            name = each.get("$ref", "").removeprefix(REFERENCE)
            if name and name not in seen:
                seen.add(name)
                pending.append(schemas[name])
            pending.extend(each.values())


def is_served(choice: Schema, schemas: Mapping[str, Schema]) -> bool:
    target = schemas.get(choice.get("$ref", "").removeprefix(REFERENCE), {})
    properties = target.get("properties", {})
    for name, known in (("type", SERVED_KINDS), ("role", ROLES)):
        kind = properties.get(name, {})
        named = kind.get("enum", [kind["const"]] if "const" in kind else [])
        if named and not known.intersection(named):
            return False
        if len(named) > 1:
            kind["enum"] = sorted(known.intersection(named))
    return True


def reachable(paths: Schema, schemas: Mapping[str, Schema]) -> set[str]:
    """The names of the schemas that are referred to."""
    found: set[str] = set()
    pending: list[Any] = [paths]
    while pending:
        each = pending.pop()
        if isinstance(each, list):
            pending.extend(each)
        elif isinstance(each, dict):
            name = each.get("$ref")
            if isinstance(name, str) and (name := name.removeprefix(REFERENCE)) not in found:
                found.add(name)
                pending.append(schemas[name])
            pending.extend(each.values())
    return found
