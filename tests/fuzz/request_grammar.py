"""Requests as clients write them, with one to three things changed: each API's own fields, and
values of the right kind, of the wrong one, and of no kind at all."""

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
    for _ in range(draw(st.integers(1, 3))):
        action = draw(st.sampled_from(["set", "remove", "schema", "part"]))
        if action == "set":
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
