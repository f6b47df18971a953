"""What vLLM's request models make of wrong bodies. They are on the event loop, which streams
everybody's tokens, and what they raise besides a refusal would be a 500.

Counted are the mistakes that pydantic describes, not seconds: the Responses API came to 477,185 of
them, and ten seconds, for a body of 70 KB.
"""

import warnings
from functools import cache
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError

from app.api.application import join_engine
from app.core.errors import InvalidRequest
from app.core.request_fields import TABLES
from app.core.request_rules import RequestRules
from tests.abuse.attack import DEFAULTS, QUESTION
from tests.unit.limits import DEFAULT_LIMITS

MAX_MISTAKES = 100
WRONG: tuple[Any, ...] = (7, 0.5, True, "a", None, [], {}, [{}], [[]], {"a": {}}, [None])
(MESSAGE,) = QUESTION
ITEMS: tuple[dict[str, Any], ...] = (
    MESSAGE,
    {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "a", "output": "x"},
    {"type": "reasoning", "id": "x", "summary": []},
)
TOOL = {"type": "function", "name": "f", "input_schema": {}, "function": {"name": "f"}}
CONVERSATIONS = [(path, name) for path in TABLES for name in ("messages", "input")]
CONVERSATIONS = [(path, name) for path, name in CONVERSATIONS if name in TABLES[path].taken]


@cache
def adapters() -> dict[str, TypeAdapter[Any]]:
    """By path: what validates the body of the route that the gateway took from vLLM."""
    with warnings.catch_warnings(action="ignore"):  # torch's own, while it is imported
        from app.engine.serving import ROUTERS
    app = FastAPI()
    join_engine(app, ROUTERS)
    return {
        route.path: route.body_field._type_adapter
        for route in app.routes
        if isinstance(route, APIRoute) and route.body_field is not None
    }


def count_mistakes(path: str, **fields: Any) -> int:
    """Of a body that our own rules let pass; 0 for one that is refused otherwise."""
    from vllm.exceptions import VLLMClientError

    body = {"model": "bundled", **DEFAULTS[path], **fields}
    rules = RequestRules(DEFAULT_LIMITS)
    try:
        body = rules.check(path, body, num_bytes=DEFAULT_LIMITS.max_chars + 1)
        rules.constraints_of(body)
        adapters()[path].validate_python(body)
    except ValidationError as error:
        return error.error_count()
    except (InvalidRequest, VLLMClientError):
        return 0
    return 0


@pytest.mark.parametrize("path", TABLES)
def test_a_wrong_field_is_refused_with_few_mistakes(path: str) -> None:
    for name in TABLES[path].taken:
        for wrong in WRONG:
            values = (wrong, [wrong], [wrong] * 16, [wrong] * 2000)
            numbered = {str(number): wrong for number in range(2000)}
            for value in (*values, numbered):
                assert count_mistakes(path, **{name: value}) <= MAX_MISTAKES, name


@pytest.mark.parametrize(("path", "name"), CONVERSATIONS)
@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.get("type", "message"))
def test_a_wrong_conversation_is_refused_with_few_mistakes(
    path: str, name: str, item: dict[str, Any]
) -> None:
    fields = ("role", "content", "name", "type", "id", "status", "call_id", "output", "tool_calls")
    for field in (*fields, "summary", "arguments", "tool_call_id"):
        for wrong in WRONG:
            for entries in ([item | {field: wrong}], [item | {field: wrong}] * 200):
                assert count_mistakes(path, **{name: entries}) <= MAX_MISTAKES, field


@pytest.mark.parametrize(("path", "name"), CONVERSATIONS)
@pytest.mark.parametrize("kind", ["text", "input_text", "output_text", "tool_use", "tool_result"])
def test_a_wrong_part_is_refused_with_few_mistakes(path: str, name: str, kind: str) -> None:
    for field in ("type", "text", "annotations", "id", "name", "input", "content", "tool_use_id"):
        for wrong in WRONG:
            for count in (1, 200):
                parts = [{"type": kind, "text": "x", field: wrong}] * count
                entries = [{"role": "user", "content": parts}]
                assert count_mistakes(path, **{name: entries}) <= MAX_MISTAKES, field


@pytest.mark.parametrize("path", [path for path in TABLES if "tools" in TABLES[path].taken])
def test_a_wrong_tool_is_refused_with_few_mistakes(path: str) -> None:
    for wrong in WRONG:
        for field in ("type", "function", "name", "parameters", "strict", "input_schema"):
            for tool in (TOOL | {field: wrong}, TOOL | {"function": {"name": "f", field: wrong}}):
                assert count_mistakes(path, tools=[tool] * 100) <= MAX_MISTAKES, field
        for field in ("type", "name", "function"):
            choice = {"type": "function", field: wrong}
            fields = {"tools": [TOOL], "tool_choice": choice}
            assert count_mistakes(path, **fields) <= MAX_MISTAKES, field
        for field in ("id", "type", "function"):
            calls = [{"id": "a", "type": "function", "function": {"name": "f"}} | {field: wrong}]
            message = {"role": "assistant", "tool_calls": calls * 100}
            assert count_mistakes(path, messages=[message]) <= MAX_MISTAKES, field


def test_an_error_that_quotes_much_of_a_request_is_worded_at_once() -> None:
    """vLLM looks for paths in it by a pattern: without a bound this takes hours."""
    with warnings.catch_warnings(action="ignore"):
        from vllm.exceptions import VLLMValidationError

        from app.engine.errors import bound_messages, translate

    bound_messages()
    error = translate(VLLMValidationError("/a" * 100_000, parameter="tool_choice"))
    assert error.param == "tool_choice"
    assert len(error.sentence) <= 300
