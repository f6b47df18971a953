import dataclasses
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.constraints import MAX_TOTAL_BYTES, find_constraints
from app.core.errors import InvalidRequest
from app.core.regex_budget import written_out
from tests.unit.limits import DEFAULT_LIMITS

TREE = {
    "type": "object",
    "properties": {"children": {"type": "array", "items": {"$ref": "#"}}},
    "$defs": {"a/b": {"type": "string"}, "c": {"$ref": "#/$defs/a~1b"}},
}


def find(body: dict[str, Any], **changes: Any) -> list[tuple[str, str]]:
    limits = dataclasses.replace(DEFAULT_LIMITS, **changes)
    return [(each.kind, each.where) for each in find_constraints(body, limits)]


def formatted(schema: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}


def refused(body: dict[str, Any]) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        find(body)
    return caught.value


def test_a_schema_is_found_wherever_an_api_has_it() -> None:
    assert find(formatted(TREE)) == [("json", "response_format.json_schema.schema")]
    assert find({"text": {"format": {"schema": TREE}}}) == [("json", "text.format.schema")]
    anthropic = {"output_config": {"format": {"type": "json_schema", "schema": TREE}}}
    assert find(anthropic) == [("json", "output_config.format.schema")]
    for tool, path in (
        ({"type": "function", "function": {"parameters": TREE}}, "function.parameters"),
        ({"type": "function", "parameters": TREE}, "parameters"),
        ({"name": "x", "input_schema": TREE}, "input_schema"),
    ):
        assert find({"tools": [tool]}) == [("json", f"tools.0.{path}")]
    for kind, value, found in (
        ("json", TREE, "json"),
        ("json", json.dumps(TREE), "json"),
        ("choice", ["a", "b"], "json"),
        ("regex", "[a-z]{3}", "regex"),
        ("grammar", 'root ::= "a"', "grammar"),
    ):
        body = {"structured_outputs": {kind: value}}
        assert find(body) == [(found, f"structured_outputs.{kind}")]
    assert find({"response_format": {"type": "json_object"}}) == []


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        {"description": "x" * 70_000},
        nested(40),
        {"enum": list(range(1001))},
        {"anyOf": [{"enum": [1, 2]}] * 334},
        {"maxItems": 10_001},
        {"minLength": -1},
        {"maxLength": 1e300},
        {"pattern": "a{10001}"},
        {"pattern": "a" * 2049},
        {"patternProperties": {"(((a{50}){50}){50})": {}}},
    ],
)
def test_a_schema_over_its_budget_is_refused(schema: dict[str, Any]) -> None:
    assert refused(formatted(schema)).code == "schema_too_complex"


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        {"anyOf": [{"$ref": "#"}]},
        {"$ref": "http://127.0.0.1/schema"},
        {"$ref": "file:///etc/passwd"},
        {"$ref": "#/nowhere"},
        {"$ref": "#x"},
        {"$dynamicRef": "#"},
    ],
)
def test_a_reference_outside_to_nothing_or_to_itself_is_refused(schema: dict[str, Any]) -> None:
    assert refused(formatted(schema)).code == "unsupported_schema"


def test_a_web_of_references_costs_no_more_than_its_size() -> None:
    names = [str(number) for number in range(900)]
    links = [{"$ref": f"#/$defs/{name}"} for name in names]
    web = {name: {"anyOf": links[number + 1 :][:1]} for number, name in enumerate(names)}
    assert find(formatted({"$ref": "#/$defs/0", "$defs": web}))


def test_a_schema_as_text_is_read_as_strictly_as_a_body() -> None:
    for text in ("[" * 1000, "{", '{"a": 1, "a": 2}', "[]"):
        assert refused({"structured_outputs": {"json": text}}).param == "structured_outputs.json"


def test_constraints_do_not_add_up() -> None:
    bodies: list[dict[str, Any]] = [
        {"structured_outputs": {"json": {}, "regex": "a"}},
        {"structured_outputs": {}},
        {"structured_outputs": {"regex": "a"}, **formatted({})},
    ]
    for body in bodies:
        assert refused(body).code == "invalid_value"
    backend = {"structured_outputs": {"regex": "a", "_backend": "outlines"}}
    assert refused(backend).param == "structured_outputs._backend"


def test_structural_tags_are_closed_until_opened() -> None:
    tag = {"type": "structural_tag", "format": {}}
    assert refused({"response_format": tag}).code == "unsupported_parameter"
    opened = frozenset({"structural_tag"})
    assert find({"response_format": tag}, open_fields=opened) == [
        ("structural_tag", "response_format")
    ]


@pytest.mark.parametrize(
    "count",
    ["{1, 99999}", "{99999}", "{ 99999 , }", "{1," + "9" * 99 + "}", "{" + "0" * 20 + "99999}"],
)
def test_a_grammars_repetitions_are_bounded(count: str) -> None:
    body = {"structured_outputs": {"grammar": f'root ::= "a"{count}'}}
    assert refused(body).code == "schema_too_complex"


def test_spaces_that_lead_nowhere_cost_what_their_number_does() -> None:
    """64 KiB of them took six seconds, in which nothing else ran."""

    def seconds(num_spaces: int) -> float:
        grammar = 'root ::= "a"{1' + " " * num_spaces
        started = time.perf_counter()
        find({"structured_outputs": {"grammar": grammar}})
        return time.perf_counter() - started

    few, many = (min(seconds(number) for _ in range(5)) for number in (2_000, 32_000))
    assert many < 100 * few  # sixteen times as many; squared, 256 times as long


@pytest.mark.parametrize(
    ("pattern", "size"),
    [
        ("", 0),
        ("abc", 3),
        (r"\d{3}", 3),
        ("a{2,}b", 3),
        ("[]a]{4}", 4),
        (r"[\]]{4}", 4),
        ("(ab){3}", 6),
        ("((a{10}){10}){10}", 1000),
        ("(a|b)*{5}", 10),
        ("a{x}", 4),
        ("(a{100}", 100),
        (")" * 5, 0),
        ("a{1000000000000}", 10**9),
        ("a{" + "0" * 20 + "7}", 7),
        ("(a{999999999}){999999999}", 10**9),
        ("[", 1),
        ("\\", 1),
    ],
)
def test_repetitions_are_written_out(pattern: str, size: int) -> None:
    assert written_out(pattern) == size


@given(st.text(alphabet="ab()[]{},0123456789\\|*+?^", max_size=60))
def test_any_text_has_a_size(pattern: str) -> None:
    assert written_out(pattern) >= 0


def test_the_schemas_of_a_request_are_bounded_together_as_they_are_written_out() -> None:
    schema = {"description": "😀" * 5000}  # twelve bytes each, escaped
    tool = {"type": "function", "function": {"parameters": schema}}
    num_within = MAX_TOTAL_BYTES // len(json.dumps(schema))
    assert len(find({"tools": [tool] * num_within})) == num_within
    error = refused({"tools": [tool] * (num_within + 1)})
    assert error.code == "schema_too_complex"
    assert error.param == f"tools.{num_within}.function.parameters"
    large = {"description": "x" * MAX_TOTAL_BYTES}
    assert len(find(formatted(large), max_schema_bytes=2 * MAX_TOTAL_BYTES)) == 1
