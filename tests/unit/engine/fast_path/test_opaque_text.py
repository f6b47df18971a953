"""An opaque text tells nothing of itself: each way of asking is tried."""

import json
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine.fast_path.opaque_text import (
    LookedAt,
    OpaqueMessage,
    OpaqueText,
    Place,
    joined,
    pieces_of,
    refuse,
)

TOLD = {"__class__", "strip", "lstrip", "rstrip"}
# Of str's own operators: those that tell nothing, and those that only pickle and sys ask for.
KEPT = {"__new__", "__doc__", "__getattribute__", "__add__", "__getnewargs__", "__sizeof__"}


@pytest.mark.parametrize("name", sorted({*dir(str), *dir(OpaqueText), "text"} - TOLD))
def test_no_method_of_a_text_can_be_had(name: str) -> None:
    with pytest.raises(LookedAt):
        getattr(OpaqueText(Place(0)), name)


@pytest.mark.parametrize("name", sorted({*vars(str)} - KEPT - TOLD))
def test_each_operator_of_a_text_is_refused(name: str) -> None:
    if name.startswith("__"):
        assert vars(OpaqueText)[name] is refuse


READERS: dict[str, Callable[[Any], Any]] = {
    "in it": lambda text: "a" in text,
    "in a text": lambda text: text in "abc",
    "in a list": lambda text: text in ["a"],
    "in a dict": lambda text: text in {"a": 1},
    "equal": lambda text: text == "a",
    "equal to another": lambda text: [text] == [OpaqueText(Place(1))],
    "equals": lambda text: "a" == text,  # noqa: SIM300
    "unequal": lambda text: text != "",
    "less": lambda text: "a" < text,  # noqa: SIM300
    "sorted": lambda text: sorted([text, "a"]),
    "length": len,
    "listed": list,
    "subscript": lambda text: text[0],
    "slice": lambda text: text[:3],
    "subscribed with": lambda text: [1, 2][text],
    "str": str,
    "repr": repr,
    "format": lambda text: f"{text}",
    "percent": lambda text: "%s" % text,  # noqa: UP031
    "percent character": lambda text: "%c" % text,  # noqa: UP031
    "is percent": lambda text: text % (),
    "times": lambda text: text * 2,
    "int": int,
    "int of base": lambda text: int(text, 10),
    "float": float,
    "join": lambda text: "".join([text]),
    "joined by": lambda text: text.join(["a"]),
    "find": lambda text: "abc".find(text),
    "startswith": lambda text: "abc".startswith((text,)),
    "replace": lambda text: "abc".replace("a", text),
    "strip of": lambda text: "abc".strip(text),
    "strip": lambda text: text.strip("a"),
    "lstrip": lambda text: text.lstrip("a"),
    "rstrip": lambda text: text.rstrip("a"),
    "json": json.dumps,
    "json in lines": lambda text: json.dumps([text], indent=1),
    "pattern": lambda text: re.match("a", text),
    "add a number": lambda text: text + 1,
    "sum": lambda text: sum([text]),
    "dict": dict,
    "intern": sys.intern,
    "range": range,
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_nothing_reads_it(read: Callable[[Any], Any]) -> None:
    with pytest.raises((LookedAt, TypeError)):
        read(OpaqueText(Place(0)))


def test_it_passes_for_a_text_that_is_not_blank() -> None:
    text = OpaqueText(Place(0))
    assert isinstance(text, str)
    assert text
    assert text.strip()


ORDERED: dict[str, Callable[[Any], Any]] = {
    "list": list,
    "reversed": reversed,
    "dict": dict,
    "keyword arguments": lambda message: dict(**message),
    "items": lambda message: message.items(),
    "keys": lambda message: message.keys(),
    "values": lambda message: message.values(),
    "copy": lambda message: message.copy(),
    "with more": lambda message: message | {},
    "added": lambda message: {} | message,
    "repr": repr,
    "str": str,
    "json": json.dumps,
    "json in lines": lambda message: json.dumps([message], indent=1),
}


@pytest.mark.parametrize("read", ORDERED.values(), ids=ORDERED)
def test_the_order_of_a_messages_fields_is_not_told(read: Callable[[Any], Any]) -> None:
    with pytest.raises(LookedAt):
        read(OpaqueMessage(role="user", content=OpaqueText(Place(0))))


# `get` tells of one name, `fromkeys` of nothing; what changes a dict the sandbox refuses.
NAMED = {"get", "fromkeys", "clear", "pop", "popitem", "setdefault", "update"}


@pytest.mark.parametrize("name", sorted({*dir(dict)} - NAMED))
def test_each_method_that_tells_of_all_fields_is_refused(name: str) -> None:
    if not name.startswith("_"):
        assert vars(OpaqueMessage)[name] is refuse


def test_a_messages_fields_are_had_by_name() -> None:
    text = OpaqueText(Place(0))
    message = OpaqueMessage(role="user", content=text)
    assert message["role"] == message.get("role") == "user"
    assert message["content"] is text
    assert "tool_calls" not in message


BLANKS = st.text(st.sampled_from(" \n\t\u2028\xa0x"), max_size=4)
STEPS = st.lists(
    st.sampled_from(["strip", "lstrip", "rstrip"]) | st.tuples(st.booleans(), BLANKS), max_size=8
)
CONTENTS = st.lists(BLANKS.filter(str.strip), min_size=2, max_size=2)


def taken(text: Any, other: Any, steps: list[Any]) -> Any:
    for step in steps:
        if isinstance(step, str):
            text = getattr(text, step)()
        else:
            text = text + step[1] if step[0] else step[1] + text
    return text + other


@given(STEPS, STEPS, CONTENTS)
def test_what_is_made_of_it_is_what_is_made_of_a_text(
    steps: list[Any], more: list[Any], contents: list[str]
) -> None:
    first, second = OpaqueText(Place(0)), OpaqueText(Place(1))
    opaque = taken(taken(first, second, steps), "", more)
    real = taken(taken(contents[0], contents[1], steps), "", more)
    pieces = pieces_of(opaque)
    assert real == "".join(
        piece.trim(contents[piece.message]) if isinstance(piece, Place) else piece
        for piece in pieces
    )


def test_plain_texts_are_joined_to_a_plain_one() -> None:
    assert joined(["a", "b"]) == "ab"
    with pytest.raises(LookedAt):
        joined(["a", 1])


def test_a_text_is_blank_where_trimming_leaves_nothing() -> None:
    """What is learned holds where `isspace` says no."""
    for code in range(sys.maxunicode + 1):
        assert chr(code).isspace() == (not chr(code).strip())
