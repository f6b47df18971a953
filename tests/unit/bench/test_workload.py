import json
import random
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from app.bench.lengths import Lengths, LengthsError, parse_lengths
from app.bench.workload import TraceError, draw_workload, read_trace


def test_lengths_spread_around_their_median() -> None:
    dice = random.Random(1)
    drawn = [parse_lengths("lognormal:100:0.5").draw(dice) for _ in range(2000)]
    assert statistics.median(drawn) == pytest.approx(100, rel=0.1)
    assert statistics.quantiles(drawn, n=20)[18] == pytest.approx(100 * 2.276, rel=0.1)


def test_a_fixed_length_is_that_length() -> None:
    assert parse_lengths("64") == Lengths(64)
    assert Lengths(64).draw(random.Random(1)) == 64


@pytest.mark.parametrize("text", ["", "0", "-3", "x", "lognormal:5", "lognormal:5:9", "normal:5:1"])
def test_lengths_that_cannot_be_meant_are_refused(text: str) -> None:
    with pytest.raises(LengthsError):
        parse_lengths(text)


def test_a_workload_is_the_same_each_time_and_its_prompts_differ() -> None:
    first, second = (
        draw_workload(20, Lengths(10, 0.5), Lengths(30, 0.5), seed=3).bodies("m") for _ in range(2)
    )
    assert first == second
    assert len(set(first)) == 20
    other = draw_workload(20, Lengths(10, 0.5), Lengths(30, 0.5), seed=4).bodies("m")
    assert not set(first) & set(other)


def test_variants_have_the_same_sizes_and_begin_differently() -> None:
    workload = draw_workload(20, Lengths(10, 0.5), Lengths(30, 0.5))
    first, second = (replace(workload, variant=name).bodies("m") for name in "ab")
    assert [len(body) for body in first] == [len(body) for body in second]
    for one, other in zip(first, second, strict=True):
        assert content(one).split()[0] != content(other).split()[0]


def content(body: bytes) -> str:
    text: str = json.loads(body)["messages"][0]["content"]
    return text


def test_lengths_are_asked_for() -> None:
    body = json.loads(draw_workload(1, Lengths(10), Lengths(30)).bodies("m")[0])
    assert len(body["messages"][0]["content"].split()) == 10
    assert (body["max_tokens"], body["ignore_eos"]) == (30, True)
    assert body["stream_options"] == {"include_usage": True}


def test_without_a_length_the_model_ends_its_answer_itself() -> None:
    body = json.loads(draw_workload(1, stream=False).bodies("m")[0])
    assert "ignore_eos" not in body
    assert "stream_options" not in body


GOOD = '{"prompt_words": 1, "output_tokens": 1}'


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("{}", "Line 1"),
        (GOOD + '\n{"prompt_words": 0, "output_tokens": 1}', "Line 2"),
        (GOOD + '\n{"prompt_words": 1, "output_tokens": 1, "at_s": 1}', "some lines have at_s"),
    ],
)
def test_a_bad_trace_is_refused_by_line(text: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(text)
    with pytest.raises(TraceError, match=sentence):
        read_trace(path)
