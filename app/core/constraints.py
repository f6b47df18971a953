"""The constraints on an answer that a request asks for: found in each API's own place, held to
their budgets, and handed on to be compiled on trial."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from app.core.errors import InvalidRequest
from app.core.limits import RequestLimits
from app.core.request_fields import STRUCTURAL_TAG, names
from app.core.schema_budget import check_regex, check_schema, over
from app.core.strict_json import parse_object

Body = Mapping[str, Any]
Kind = Literal["json", "regex", "grammar", "structural_tag"]

# The fields in which one can stand.
CONSTRAINING = names("structured_outputs response_format text output_config tools")
_KINDS = names("json regex choice grammar json_object structural_tag")
_OPTIONS = names("disable_any_whitespace disable_additional_properties")
# Of all of a request's together, unless one alone may have more: each passes through the event loop
# on its way to the trial, 20 ms for so much. Escaped, 8 MB of tools would be 24.
MAX_TOTAL_BYTES = 1 << 20
# Spaces can be matched in one way only: in two, 64 KiB of them would take seconds to give up.
_COUNT = re.compile(r"\{\s*(?:\d+\s*,\s*)?(\d+)\s*(?:,\s*)?\}")


@dataclass(frozen=True)
class Constraint:
    """`text`: a schema or tag as JSON, a pattern, or a grammar. `where`: the field it came from."""

    kind: Kind
    text: str
    where: str


def find_constraints(body: Body, limits: RequestLimits) -> tuple[Constraint, ...]:
    """What has to compile for this request. Raises InvalidRequest for what is over its budget."""
    most, total = max(MAX_TOTAL_BYTES, limits.max_schema_bytes), 0
    found: list[Constraint] = []
    for find in (from_structured_outputs, from_formats, from_tools):
        for each in find(body, limits):
            total += len(each.text)
            if total > most:
                raise InvalidRequest(
                    f"The schemas of one request may have {most} bytes together.",
                    param=each.where,
                    code="schema_too_complex",
                )
            found.append(each)
    return tuple(found)


def from_structured_outputs(body: Body, limits: RequestLimits) -> Iterator[Constraint]:
    """vLLM's own field."""
    field = "structured_outputs"
    given = body.get(field)
    if given is None:
        return
    if not isinstance(given, dict):  # an empty list would pass vLLM's model and fail behind it
        raise InvalidRequest(f"{field} has to be an object.", param=field, code="invalid_value")
    if unknown := given.keys() - _KINDS - _OPTIONS:
        name = min(unknown)[:60]
        raise InvalidRequest(
            f"{field}.{name} is not served.", param=f"{field}.{name}", code="unsupported_parameter"
        )
    kinds = [name for name in sorted(_KINDS) if given.get(name) is not None]
    if len(kinds) != 1 or is_format(body.get("response_format")):
        raise InvalidRequest(
            "One constraint at a time: one of structured_outputs' kinds, or response_format.",
            param=field,
            code="invalid_value",
        )
    yield from of_kind(kinds[0], given[kinds[0]], f"{field}.{kinds[0]}", limits)


def of_kind(kind: str, value: Any, where: str, limits: RequestLimits) -> Iterator[Constraint]:
    if kind == "json":
        yield of_schema(value, where, limits)
    elif kind == "regex" and isinstance(value, str):
        check_regex(value, where, limits)
        yield Constraint("regex", value, where)
    elif kind == "choice" and isinstance(value, list):
        yield of_schema({"enum": value}, where, limits)
    elif kind == "grammar" and isinstance(value, str):
        check_grammar(value, where, limits)
        yield Constraint("grammar", value, where)
    elif kind == STRUCTURAL_TAG:
        yield of_tag(value, where, limits)


def from_formats(body: Body, limits: RequestLimits) -> Iterator[Constraint]:
    """OpenAI's response_format, Responses' text.format, Anthropic's output_config.format."""
    wanted = body.get("response_format")
    if isinstance(wanted, dict) and wanted.get("type") == STRUCTURAL_TAG:
        yield of_tag(wanted, "response_format", limits)
    inner = wanted.get("json_schema") if isinstance(wanted, dict) else None
    if isinstance(inner, dict) and inner.get("schema") is not None:
        yield of_schema(inner["schema"], "response_format.json_schema.schema", limits)
    for field in ("text", "output_config"):
        outer = body.get(field)
        wanted = outer.get("format") if isinstance(outer, dict) else None
        if isinstance(wanted, dict) and wanted.get("schema") is not None:
            yield of_schema(wanted["schema"], f"{field}.format.schema", limits)


def from_tools(body: Body, limits: RequestLimits) -> Iterator[Constraint]:
    """The schemas of the tools' arguments; a choice of tools can make a grammar of each."""
    tools = body.get("tools")
    for number, tool in enumerate(tools if isinstance(tools, list) else ()):
        if not isinstance(tool, dict):
            continue
        function = tool.get("function")
        for holder, path in ((function, "function.parameters"), (tool, "parameters")):
            if isinstance(holder, dict) and isinstance(holder.get("parameters"), dict):
                yield of_schema(holder["parameters"], f"tools.{number}.{path}", limits)
        if isinstance(tool.get("input_schema"), dict):
            yield of_schema(tool["input_schema"], f"tools.{number}.input_schema", limits)


def is_format(value: Any) -> bool:
    return isinstance(value, dict) and value.get("type", "text") != "text"


def of_schema(schema: Any, where: str, limits: RequestLimits) -> Constraint:
    if isinstance(schema, str):
        if len(schema) > limits.max_schema_bytes:
            raise over(where, "bytes", len(schema), limits.max_schema_bytes)
        try:
            schema = parse_object(schema.encode("utf-8", "surrogatepass"))
        except InvalidRequest as error:
            raise InvalidRequest(
                f"{where}: {error.sentence}", param=where, code="unsupported_schema"
            ) from None
    if not isinstance(schema, dict):
        raise InvalidRequest(
            f"{where} has to be a JSON schema, an object.", param=where, code="invalid_value"
        )
    check_schema(schema, where, limits)
    return Constraint("json", json.dumps(schema), where)


def of_tag(value: Any, where: str, limits: RequestLimits) -> Constraint:
    """vLLM compiles these while it checks the request, so they have to be opened by name."""
    if STRUCTURAL_TAG not in limits.open_fields:
        raise InvalidRequest(
            "Structural tags are not taken here; limits.open_fields of the service opens them.",
            param=where,
            code="unsupported_parameter",
        )
    return Constraint("structural_tag", of_schema(value, where, limits).text, where)


def check_grammar(grammar: str, where: str, limits: RequestLimits) -> None:
    if len(grammar) > limits.max_schema_bytes:
        raise over(where, "characters", len(grammar), limits.max_schema_bytes)
    counts = (count[1].lstrip("0")[:12] for count in _COUNT.finditer(grammar))
    most = max((int(count or 0) for count in counts), default=0)
    if most > limits.max_repetition:
        raise over(where, "repetitions", most, limits.max_repetition)
