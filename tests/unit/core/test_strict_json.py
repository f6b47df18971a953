import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import InvalidRequest
from app.core.strict_json import (
    MAX_CONTAINERS,
    MAX_DEPTH,
    MAX_KEYS,
    MAX_STRINGS,
    MAX_VALUES,
    _unique_keys,
    check_structure,
    depth_of,
    parse_object,
)

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), values, max_size=5), st.booleans())
def test_what_python_writes_is_read_back(fields: dict[str, object], ascii_only: bool) -> None:
    text = json.dumps(fields, ensure_ascii=ascii_only)
    try:
        body = text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which has no bytes
        return
    try:
        assert parse_object(body) == fields
    except InvalidRequest as refused:
        assert refused.code in ("invalid_utf8",)
        assert any(
            "\ud800" <= char <= "\udfff"
            for char in json.loads(text)
            .__repr__()
            .encode("utf-8", "surrogatepass")
            .decode("utf-8", "surrogatepass")
        )


@given(st.binary(max_size=200))
def test_any_bytes_are_an_object_or_a_clear_refusal(body: bytes) -> None:
    try:
        assert isinstance(parse_object(body), dict)
    except InvalidRequest as refused:
        assert refused.status == 400
        assert refused.sentence


def test_the_depth_is_that_of_the_brackets() -> None:
    assert depth_of(b"{[{[]}]}") == 4


@given(st.text(alphabet='[]{},:"\\\\n', max_size=300))
def test_what_stands_in_a_string_is_no_structure(text: str) -> None:
    check_structure(json.dumps({"a": text * 400, "b": [1, {"c": []}]}).encode())


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": [' + b"[]," * MAX_CONTAINERS + b"1]}",
        b'{"a": [' + b'"",' * MAX_STRINGS + b"1]}",
        b'{"a": {' + b",".join(b'"%d":0' % number for number in range(MAX_KEYS)) + b"}}",
        b'{"a": [' + b"0," * (MAX_VALUES + 1) + b"1]}",
        b"[" * 1_000_000,
        b'{"a": [' + b'"\\\\",' * MAX_STRINGS + b"1]}",
    ],
)
def test_too_many_parts_are_refused_before_anything_is_parsed(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_structure(body)
    assert refused.value.code == "json_too_large"


def test_nesting_is_bounded_without_recursion() -> None:
    parse_object(b'{"a":' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}")
    for deep in (b"[" * 1000, b'{"a":' * 100 + b"1" + b"}" * 100):
        with pytest.raises(InvalidRequest) as refused:
            parse_object(deep)
        assert refused.value.code == "json_too_deep"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000])
def test_what_is_no_finite_number_is_refused(number: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_object(b'{"a": ' + number.encode() + b"}")


def test_a_key_that_stands_twice_is_refused_at_any_depth() -> None:
    with pytest.raises(InvalidRequest, match="twice"):
        parse_object(b'{"a": [{"b": 1, "b": 2}]}')


def test_finding_the_key_that_stands_twice_compares_each_key_a_few_times_only() -> None:
    """Each with each: 100,000 keys were a minute in the one thread that checks bodies."""
    num_compared = 0

    class Key(str):
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal num_compared
            num_compared += 1
            return str.__eq__(self, str(other))

    names = [Key(number) for number in range(2000)]
    with pytest.raises(ValueError, match="twice"):
        _unique_keys([(name, 1) for name in [*names, Key(1999)]])
    assert num_compared < 10 * len(names)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_a_short_body_is_refused_for_its_depth_too(opening: str) -> None:
    body = f'{{"a": {opening * (MAX_DEPTH + 1)}'.encode()
    with pytest.raises(InvalidRequest) as refused:
        parse_object(body)
    assert refused.value.code == "json_too_deep"


def test_brackets_in_a_text_are_not_nesting() -> None:
    text = "[{" * MAX_DEPTH
    assert parse_object(json.dumps({"a": text}).encode()) == {"a": text}


def test_a_byte_order_mark_is_named() -> None:
    with pytest.raises(InvalidRequest, match="BOM"):
        parse_object(b'\xef\xbb\xbf{"a": 1}')
