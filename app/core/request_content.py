"""What a conversation may consist of: known roles, texts, function tools. Nothing else is served,
so nothing in a request can make the server fetch, open or decode anything."""

from collections.abc import Iterator, Mapping
from typing import Any

from app.core.errors import InvalidRequest
from app.core.limits import RequestLimits
from app.core.request_bounds import check_count
from app.core.request_fields import names

Body = Mapping[str, Any]

ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
# The only keys of a part: vLLM looks for media by key, whatever `type` says.
_PART_KEYS = names(
    "type text refusal thinking annotations logprobs cache_control prompt_cache_breakpoint"
)
_CHAT_PARTS = names("text input_text output_text refusal thinking")
_RESPONSES_PARTS = names("input_text output_text refusal text reasoning_text summary_text")
_RESPONSES_ITEMS = names("message function_call function_call_output reasoning")
_BLOCKS = names("text tool_use tool_result tool_reference thinking redacted_thinking")
_FUNCTION, _CUSTOM = frozenset({"function"}), frozenset({"custom"})
# Whatever `type` may be, of a message, a part or a tool.
SERVED_KINDS = _CHAT_PARTS | _RESPONSES_PARTS | _RESPONSES_ITEMS | _BLOCKS | _FUNCTION | _CUSTOM
_BLOCK_KEYS = names(
    "type text id tool_use_id name input content is_error tool_name thinking signature data",
    "cache_control citations caller",
)


def check_chat(body: Body, limits: RequestLimits) -> None:
    """`messages` and `tools` of chat completions and of /tokenize."""
    refuse_empty(body, "messages")
    num_parts = 0
    for number, message in each_of(body, "messages", limits.max_messages):
        where = f"messages.{number}"
        if "author" in message:  # vLLM makes a message of another model's format of it
            raise unsupported(where, "author")
        check_role(message.get("role"), where)
        num_parts += check_parts(message.get("content"), _CHAT_PARTS, f"{where}.content")
        num_parts += len(listed(message, "tool_calls", f"{where}.tool_calls"))
    check_num_parts(num_parts, "messages", limits)
    check_tools(body, limits, _FUNCTION)


def check_responses(body: Body, limits: RequestLimits) -> None:
    """`input`: messages, calls of functions, what they gave, and reasoning."""
    refuse_empty(body, "input")
    num_parts = 0
    for number, item in each_of(body, "input", limits.max_messages):
        where = f"input.{number}"
        kind = item.get("type", "message")
        if not is_one_of(kind, _RESPONSES_ITEMS):
            raise unsupported(where, kind)
        if kind == "message":
            check_role(item.get("role"), where)
        for field in ("content", "output", "summary"):
            num_parts += check_parts(item.get(field), _RESPONSES_PARTS, f"{where}.{field}")
    check_num_parts(num_parts, "input", limits)
    check_tools(body, limits, _FUNCTION)


def check_messages(body: Body, limits: RequestLimits) -> None:
    """Anthropic's `messages` and `system`."""
    refuse_empty(body, "messages")
    num_parts = check_blocks(body.get("system"), "system")
    for number, message in each_of(body, "messages", limits.max_messages):
        num_parts += check_blocks(message.get("content"), f"messages.{number}.content")
    check_num_parts(num_parts, "messages", limits)
    check_tools(body, limits, _CUSTOM)


def each_of(body: Body, name: str, most: int) -> Iterator[tuple[int, Body]]:
    """The objects of a list, numbered; a text has none. Raises InvalidRequest for too many, and
    for what vLLM's models would take for a list without looking."""
    if isinstance(body.get(name), str):
        return
    values = listed(body, name, name)
    check_count(values, name, most)
    for number, value in enumerate(values):
        where = f"{name}.{number}"
        if not isinstance(value, dict):
            raise InvalidRequest(f"{where} has to be an object.", param=where, code="invalid_value")
        yield number, value


def listed(holder: Body, name: str, where: str) -> list[Any]:
    """The list in a field; empty where it has none. Raises InvalidRequest for anything else."""
    values = holder.get(name)
    if values is None:
        return []
    if not isinstance(values, list):
        raise InvalidRequest(f"{where} has to be a list.", param=where, code="invalid_value")
    return values


def refuse_empty(body: Body, name: str) -> None:
    """A conversation that is there and empty; one that is missing is for vLLM to ask for."""
    if name in body and body[name] in (None, "", []):
        raise InvalidRequest(f"{name} has to have an entry.", param=name, code="invalid_value")


def is_one_of(kind: Any, kinds: frozenset[str]) -> bool:
    return isinstance(kind, str) and kind in kinds


def check_role(role: Any, where: str) -> None:
    if isinstance(role, str) and role not in ROLES:
        raise InvalidRequest(
            f"{where}.role is {role[:40]!r}; there are {', '.join(sorted(ROLES))}.",
            param=f"{where}.role",
            code="invalid_value",
        )


def check_parts(content: Any, kinds: frozenset[str], where: str) -> int:
    """How many parts there are, all of them texts."""
    if content is None or isinstance(content, str):
        return 0
    if not isinstance(content, list):
        raise InvalidRequest(
            f"{where} has to be a text or a list of parts.", param=where, code="invalid_value"
        )
    for number, part in enumerate(content):
        if not isinstance(part, dict):
            continue
        if not is_one_of(part.get("type"), kinds):
            raise unsupported(f"{where}.{number}", part.get("type"))
        if unknown := part.keys() - _PART_KEYS:
            raise unsupported(f"{where}.{number}", min(unknown))
    return len(content)


def check_blocks(content: Any, where: str) -> int:
    """How many blocks there are, those inside of tool results included."""
    if not isinstance(content, list):
        return 0
    num_blocks = len(content)
    for number, block in enumerate(content):
        if not isinstance(block, dict):
            continue
        here = f"{where}.{number}"
        if not is_one_of(block.get("type"), _BLOCKS):
            raise unsupported(here, block.get("type"))
        if unknown := block.keys() - _BLOCK_KEYS:
            raise unsupported(here, min(unknown))
        num_blocks += check_blocks(block.get("content"), f"{here}.content")
    return num_blocks


def check_num_parts(num_parts: int, where: str, limits: RequestLimits) -> None:
    if num_parts > limits.max_content_parts:
        raise InvalidRequest(
            f"{where} has {num_parts} parts; it may have {limits.max_content_parts}.",
            param=where,
            code="limit_exceeded",
        )


def check_tools(body: Body, limits: RequestLimits, kinds: frozenset[str]) -> None:
    """Only functions that the client calls itself; a tool that the server would call is none."""
    for number, tool in each_of(body, "tools", limits.max_tools):
        kind = tool.get("type")
        if not is_one_of(kind, kinds) and kind is not None:
            raise InvalidRequest(
                f"tools.{number} is of type {str(kind)[:40]!r}; only functions are served.",
                param=f"tools.{number}.type",
                code="unsupported_tool",
            )
    choice = body.get("tool_choice")
    if isinstance(choice, dict) and not isinstance(choice.get("name", ""), str):
        raise InvalidRequest(
            "tool_choice.name has to be a text.", param="tool_choice.name", code="invalid_value"
        )


def unsupported(where: str, kind: Any) -> InvalidRequest:
    return InvalidRequest(
        f"{where}: {str(kind)[:40]!r} is not served; this service takes text only.",
        param=where,
        code="unsupported_content",
    )
