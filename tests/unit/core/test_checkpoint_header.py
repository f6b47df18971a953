import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.checkpoint_header import MAX_HEADER_BYTES, header_length, parse_header
from app.core.errors import CheckpointError


def parse(header: dict[str, Any], data_bytes: int) -> Any:
    raw = json.dumps(header).encode()
    return parse_header(raw, 8 + len(raw) + data_bytes, "model.safetensors")


def entry(dtype: Any = "I8", shape: Any = (2, 3), offsets: Any = (0, 6)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_a_whole_header_gives_its_tensors_in_the_order_of_their_data() -> None:
    header = {"b": entry("BF16", (3, 1), (6, 12)), "a": entry(), "__metadata__": {"format": "pt"}}
    first, second = parse(header, 12)
    assert (first.name, first.dtype, first.shape, first.num_bytes) == ("a", "I8", (2, 3), 6)
    assert (second.name, second.num_bytes, second.num_values) == ("b", 6, 3)
    assert second.start == first.start + 6


@pytest.mark.parametrize(
    ("header", "data_bytes", "says"),
    [
        ({"a": entry(dtype="I9")}, 6, "unknown dtype"),
        ({"a": entry(dtype=["I8"])}, 6, "unknown dtype"),
        ({"a": entry(shape=(2, 4))}, 6, "needs 8"),
        ({"a": entry(shape=(2, -3))}, 6, "shape"),
        ({"a": entry(shape=(True, 6))}, 6, "shape"),
        ({"a": entry(shape=[1] * 9)}, 6, "shape"),
        ({"a": entry(shape="six")}, 6, "shape"),
        ({"a": entry(offsets=(6, 0))}, 6, "offsets"),
        ({"a": entry(offsets=(-6, 0))}, 6, "offsets"),
        ({"a": entry(offsets=(0, 6.0))}, 6, "offsets"),
        ({"a": entry(), "b": entry(offsets=(3, 9))}, 9, "overlaps"),
        ({"a": entry(), "b": entry(offsets=(8, 14))}, 14, "hole"),
        ({"a": entry()}, 5, "truncated"),
        ({"a": entry()}, 7, "nothing names"),
        ({"a\x1b[31m": entry()}, 6, "cannot be a name"),
        ({"a": None}, 6, "unknown dtype"),
    ],
)
def test_a_damaged_header_is_refused_by_name(
    header: dict[str, Any], data_bytes: int, says: str
) -> None:
    with pytest.raises(CheckpointError, match=says) as refusal:
        parse(header, data_bytes)
    assert "model.safetensors" in refusal.value.sentence


@pytest.mark.parametrize(
    "raw",
    [b"", b"\xff\xfe", b"[1, 2]", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}", b'{"a":1,"a":2}'],
    ids=["empty", "not UTF-8", "a list", "nested", "a huge number", "a key twice"],
)
def test_a_header_that_is_no_json_object_is_refused(raw: bytes) -> None:
    with pytest.raises(CheckpointError, match="the header of model"):
        parse_header(raw, 8 + len(raw), "model.safetensors")


@pytest.mark.parametrize(
    ("length", "file_bytes", "says"),
    [(2**63, 2**10, "announces"), (MAX_HEADER_BYTES, 2**10, "truncated")],
)
def test_a_header_length_is_checked_before_anything_is_read(
    length: int, file_bytes: int, says: str
) -> None:
    with pytest.raises(CheckpointError, match=says):
        header_length(struct.pack("<Q", length), file_bytes, "model.safetensors")


def test_a_file_shorter_than_its_length_prefix_is_truncated() -> None:
    with pytest.raises(CheckpointError, match="truncated"):
        header_length(b"\x00\x00", 2, "model.safetensors")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["I8", "BF16", "F4", "X"]) | json_values,
        "shape": st.lists(st.integers(-2, 2**70), max_size=10) | json_values,
        "data_offsets": st.lists(st.integers(-2, 2**70), max_size=3) | json_values,
    }
)


@given(st.dictionaries(st.text(max_size=8), entries | json_values, max_size=4))
def test_no_header_does_anything_but_parse_or_be_refused(header: dict[str, Any]) -> None:
    try:
        tensors = parse(header, 64)
    except CheckpointError:
        return
    assert sum(tensor.num_bytes for tensor in tensors) == 64


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_but_parse_or_be_refused(raw: bytes) -> None:
    try:
        parse_header(raw, 8 + len(raw), "model.safetensors")
    except CheckpointError as refusal:
        assert refusal.sentence
