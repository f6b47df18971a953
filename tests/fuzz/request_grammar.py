"""Requests as clients write them, with one to four things changed: each API's own fields, and
values that are usual, of the right kind, of the wrong one, and of no kind at all."""

import json
from typing import Any

from hypothesis import strategies as st

from app.core.request_fields import TABLES
from tests.abuse.attack import DEFAULTS

VALID: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"max_tokens": 2, "temperature": 0.5, "stop": ["x"], "n": 1},
    "/v1/completions": {"max_tokens": 2, "logprobs": 1, "echo": False, "seed": 7},
    "/v1/responses": {"max_output_tokens": 2, "instructions": "Be brief.", "store": False},
    "/v1/messages": {"max_tokens": 2, "system": "Be brief.", "stop_sequences": ["x"]},
    "/v1/messages/count_tokens": {"system": [{"type": "text", "text": "Be brief."}]},
    "/tokenize": {"add_special_tokens": True},
    "/detokenize": {},
}
HOSTILE: tuple[Any, ...] = (
    *(None, True, 0, -1, 1e-308, 1e308, 2**31, 2**63, -(2**64), 10**40),
    *("", "\x00", "\ud7ff\uffff", "<|eot_id|>", "nan", "7", "x" * 5000, "../../etc/passwd"),
    *([], [[]], {}, {"": {}}, [None], {"type": "text"}, {"$ref": "#"}, [{"role": "user"}]),
)
TOOL = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS: dict[str, list[dict[str, Any]]] = {
    "/v1/messages": [{"name": "look", "input_schema": TOOL}],
    "/v1/responses": [{"type": "function", "name": "look", "parameters": TOOL}],
    "/v1/chat/completions": [
        {"type": "function", "function": {"name": "look", "parameters": TOOL}}
    ],
}
# Values that a client may well send, up to the bounds: they go deep into the engine.
USUAL: dict[str, tuple[Any, ...]] = {
    "n": (1, 2, 16),
    "stream": (True, False),
    "stream_options": ({"include_usage": True}, {"continuous_usage_stats": True}),
    "temperature": (0, 1e-9, 1, 2, 100),
    "top_p": (1e-9, 0.5, 1),
    "top_k": (-1, 0, 1, 5, 2**31 - 1),
    "min_p": (0, 0.5, 1),
    "seed": (0, -1, 2**63 - 1, -(2**63)),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "repetition_penalty": (0.01, 1.5, 100),
    "stop": ("x", ["a", "b"], "\n", ["\ud83d\ude00"]),
    "stop_token_ids": ([0], [2**31 - 1], list(range(200))),
    "bad_words": (["a"], ["\u00e9", " "], ["a" * 200]),
    "logit_bias": ({"1": 100}, {"1": -100, "2": 5}, {"2147483647": 1}, {"99999": 1}),
    "logprobs": (True, 0, 1, 20),
    "top_logprobs": (0, 1, 20),
    "prompt_logprobs": (0, 1, 5),
    "echo": (True,),
    "suffix": ("tail",),
    "prompt": ("", ["a", "b"], "x" * 5000, ["a"] * 64, "\x00", " "),
    "min_tokens": (0, 1, 2, 64),
    "max_tokens": (0, 1, 2, 64, 65),
    "max_completion_tokens": (0, 1, 64),
    "max_output_tokens": (1, 16, 64),
    "ignore_eos": (True,),
    "length_penalty": (0, 1),
    "skip_special_tokens": (False,),
    "spaces_between_special_tokens": (False,),
    "include_stop_str_in_output": (True,),
    "add_special_tokens": (True, False),
    "add_generation_prompt": (True, False),
    "continue_final_message": (True,),
    "parallel_tool_calls": (True, False),
    "tool_choice": ("auto", "none", "required", {"type": "auto"}, {"type": "tool", "name": "look"}),
    "response_format": ({"type": "json_object"}, {"type": "text"}),
    "structured_outputs": ({"regex": "[ab]{2}"}, {"choice": ["a", "b"]}, {"json_object": True}),
    "reasoning_effort": ("low", "high", "none"),
    "thinking_token_budget": (0, 5, -1),
    "thinking": ({"type": "enabled", "budget_tokens": 1024}, {"type": "disabled"}),
    "reasoning": ({"effort": "low"}, {"summary": "auto"}),
    "truncation": ("auto", "disabled"),
    "max_tool_calls": (0, 1),
    "include": (["message.output_text.logprobs"], ["reasoning.encrypted_content"]),
    "text": ({"format": {"type": "json_object"}}, {"verbosity": "low"}),
    "system": ("", [{"type": "text", "text": "Be brief."}]),
    "instructions": ("", "x" * 3000),
    "store": (True, False),
    "return_token_strs": (True,),
    "tokens": ([], [0, 1, 2], [2**31 - 1], [99999]),
}
schemas = st.recursive(
    st.sampled_from([{"type": "string"}, {"type": "integer"}, {"enum": [1, "a"]}, {"const": None}]),
    lambda inner: (
        st.builds(lambda items: {"type": "array", "items": items, "maxItems": 3}, inner)
        | st.builds(lambda of: {"anyOf": of}, st.lists(inner, min_size=1, max_size=3))
        | st.builds(
            lambda fields: {"type": "object", "properties": fields},
            st.dictionaries(st.text(max_size=4), inner, max_size=3),
        )
    ),
    max_leaves=6,
)
values = st.recursive(
    st.sampled_from(HOSTILE) | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def bodies(draw: st.DrawFn, path: str) -> bytes:
    """The bytes of a request for `path`."""
    body: dict[str, Any] = {"model": "bundled", **DEFAULTS[path], **VALID[path]}
    table = TABLES[path]
    fields = sorted(table.taken | table.guarded | set(table.unserved) | table.dropped | {"odd"})
    usual = sorted(table.taken & USUAL.keys())
    for _ in range(draw(st.integers(1, 4))):
        action = draw(st.sampled_from(["tune", "tune", "tune", "set", "remove", "schema", "part"]))
        if action == "tune":
            name = draw(st.sampled_from(usual))
            body[name] = draw(st.sampled_from(USUAL[name]))
            if name == "tool_choice" and path in TOOLS:
                body["tools"] = TOOLS[path]
        elif action == "set":
            body[draw(st.sampled_from(fields))] = draw(values)
        elif action == "remove":
            body.pop(draw(st.sampled_from(sorted(body))), None)
            body = body or {"model": "bundled"}
        elif action == "schema":
            body["structured_outputs"] = {"json": draw(schemas)}
        else:
            parts = draw(st.lists(values | st.just({"type": "text", "text": "hi"}), max_size=3))
            body["messages"] = [{"role": "user", "content": parts}]
    content = json.dumps(body).encode()
    if draw(st.integers(0, 9)) == 0:  # broken on the way
        position = draw(st.integers(0, len(content)))
        content = content[:position] + draw(st.binary(max_size=3)) + content[position + 1 :]
    return content


requests = st.sampled_from(sorted(TABLES)).flatmap(
    lambda path: st.tuples(st.just(path), bodies(path))
)
