import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.bench.connection import Reply
from app.bench.outcome import Outcome
from app.bench.reply import note_reply

USAGE = {"prompt_tokens": 5, "completion_tokens": 3}


def event(content: dict[str, object], *, spaced: bool = False) -> bytes:
    separators = (", ", ": ") if spaced else (",", ":")
    return b"data: %s\n\n" % json.dumps(content, separators=separators).encode()


def delta(text: str) -> dict[str, object]:
    return {"choices": [{"delta": {"content": text}}]}


def read(pieces: list[bytes], status: int = 200, *, stream: bool = True) -> Outcome:
    reply = Reply(status, pieces, [float(index) for index in range(1, len(pieces) + 1)])
    outcome = Outcome(due_s=0.0)
    note_reply(outcome, reply, stream=stream)
    return outcome


@pytest.mark.parametrize("spaced", [False, True])
def test_a_stream_is_read_whatever_its_json_looks_like(spaced: bool) -> None:
    contents: list[dict[str, object]] = [
        delta(""),
        delta("a"),
        delta("b"),
        {"choices": [], "usage": USAGE},
    ]
    outcome = read([event(each, spaced=spaced) for each in contents] + [b"data: [DONE]\n\n"])
    assert outcome.error is None
    assert outcome.chunk_times == [2, 3]
    assert (outcome.num_prompt_tokens, outcome.num_output_tokens) == (5, 3)
    assert outcome.ended_s == 5


@given(st.lists(st.integers(1, 200), max_size=10), st.text(min_size=1))
def test_a_stream_cut_into_any_pieces_gives_the_same_text_and_usage(
    cuts: list[int], text: str
) -> None:
    whole = event(delta(text)) + event({"choices": [], "usage": USAGE}) + b"data: [DONE]\n\n"
    places = sorted({cut for cut in cuts if cut < len(whole)})
    bounds = [0, *places, len(whole)]
    outcome = read([whole[a:b] for a, b in itertools.pairwise(bounds)])
    assert outcome.error is None
    assert len(outcome.chunk_times) == 1
    assert outcome.num_output_tokens == 3


def test_text_that_looks_like_a_chunk_is_not_one() -> None:
    outcome = read([event({"choices": [{"delta": {"role": '"content":"x'}}]}), b"data: [DONE]\n\n"])
    assert outcome.chunk_times == []


@pytest.mark.parametrize(
    ("pieces", "kind"),
    [
        ([event(delta("a"))], "cut stream"),
        ([event(delta("a")), event({"error": {"message": "x"}})], "error event"),
        ([b'data: {"usage": {\n\n', b"data: [DONE]\n\n"], "bad response"),
    ],
)
def test_a_stream_that_went_wrong_is_counted_by_kind(pieces: list[bytes], kind: str) -> None:
    assert read(pieces).error == kind


def test_a_refusal_is_its_status() -> None:
    assert read([b"{}"], 429).error == "status 429"


def test_a_whole_answer_has_usage_and_no_chunks() -> None:
    outcome = read([b'{"usage":{"prompt_tokens":5,', b'"completion_tokens":3}}'], stream=False)
    assert (outcome.error, outcome.num_output_tokens, outcome.chunk_times) == (None, 3, [])


@pytest.mark.parametrize("body", [b"<html>", b"{}", b"[]"])
def test_an_answer_without_usage_is_a_bad_response(body: bytes) -> None:
    assert read([body], stream=False).error == "bad response"
