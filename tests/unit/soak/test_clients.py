"""What a soak asks for, and how it reads answers."""

import json
from typing import Any

import pytest

from app.soak.clients import Tokens, read_tokens
from app.soak.mix import KINDS, Ask, draw
from app.soak.snapshot import Gauge


def events(*bodies: dict[str, Any]) -> str:
    return "".join(f"data: {json.dumps(body)}\n\n" for body in bodies) + "data: [DONE]\n\n"


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"usage": {"prompt_tokens": 7, "completion_tokens": 3}}),
        json.dumps({"usage": {"input_tokens": 7, "output_tokens": 3}}),
        events({"choices": []}, {"usage": {"prompt_tokens": 7, "completion_tokens": 3}}),
        events(
            {"response": {"usage": None}},
            {"response": {"usage": {"input_tokens": 7, "output_tokens": 3}}},
        ),
        events(
            {"message": {"usage": {"input_tokens": 7, "output_tokens": 0}}},
            {"usage": {"output_tokens": 3}},
        ),
    ],
)
def test_tokens_are_read_in_each_apis_words(text: str) -> None:
    assert read_tokens(text) == Tokens(7, 3)


def test_an_answer_that_was_cut_off_has_no_tokens() -> None:
    assert read_tokens(events({"choices": [{"delta": {"content": "1"}}]})) is None


def test_the_shares_are_of_a_hundred_and_every_kind_comes() -> None:
    assert sum(kind.share for kind in KINDS) == 100
    asks = draw(1)
    drawn: list[Ask] = [next(asks) for _ in range(1000)]
    assert {each.kind for each in drawn} == {kind.name for kind in KINDS}


def test_a_leak_is_more_than_the_slack() -> None:
    memory = Gauge("rss", "memory", 0.02, is_share=True)
    assert memory.is_flat(1000, 1020)
    assert not memory.is_flat(1000, 1021)
    assert not Gauge("tasks", "tasks").is_flat(10, 11)
