from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine.simulated_answers import SimulatedAnswers

TEXT = list(range(100, 200))
END = 7
CLOSING = [3, 5]
PROMPT = [1, 2, 3, 4]


def make_answers() -> SimulatedAnswers:
    return SimulatedAnswers(TEXT, END, CLOSING)


def answer(
    answers: SimulatedAnswers, request_id: str, num_tokens: int, num_prompt: int = len(PROMPT)
) -> list[int]:
    tokens: list[int] = []
    for num_computed in range(num_prompt, num_prompt + num_tokens):
        tokens += answers.next_tokens({request_id: num_computed}, {})[0]
    return tokens


def mask(*tokens: int) -> list[int]:
    """Words as a grammar's bit mask has them: signed."""
    words = [0] * 8
    for token in tokens:
        words[token >> 5] |= 1 << (token & 31)
    return [word - 2**32 if word >= 2**31 else word for word in words]


@given(st.lists(st.integers(0, 999), min_size=1), st.none() | st.integers(0, 2**31))
def test_the_same_prompt_and_seed_get_the_same_answer(prompt: list[int], seed: int | None) -> None:
    answers = make_answers()
    answers.begin("a", prompt, seed, None)
    answers.begin("b", prompt, seed, None)
    assert answer(answers, "a", 150, len(prompt)) == answer(answers, "b", 150, len(prompt))


def test_seeds_and_prompts_differ_in_their_answers() -> None:
    answers = make_answers()
    beginnings = set()
    for seed in range(20):
        answers.begin(str(seed), PROMPT, seed, None)
        beginnings.add(answer(answers, str(seed), 1)[0])
    assert len(beginnings) > 10


def test_an_answer_is_a_stretch_of_the_text() -> None:
    answers = make_answers()
    answers.begin("a", PROMPT, None, None)
    tokens = answer(answers, "a", 100)
    assert sorted(tokens) == TEXT
    start = TEXT.index(tokens[0])
    assert tokens == TEXT[start:] + TEXT[:start]


def test_an_answer_ends_at_its_length() -> None:
    answers = make_answers()
    answers.begin("a", PROMPT, None, 2)
    assert answer(answers, "a", 3)[2] == END


def test_a_prompt_computed_in_parts_yields_its_first_token_with_the_last_part() -> None:
    answers = make_answers()
    answers.begin("a", PROMPT, None, None)
    assert answers.next_tokens({"a": 3}, {}) == [[]]
    assert len(answers.next_tokens({"a": 4}, {})[0]) == 1


def test_a_request_that_is_computed_again_goes_on_where_it_was() -> None:
    answers = make_answers()
    answers.begin("a", PROMPT, None, None)
    first = answer(answers, "a", 2)
    answers.begin("a", PROMPT, None, None)
    assert answers.next_tokens({"a": 5}, {}) == [[]]
    third = answers.next_tokens({"a": 6}, {})[0][0]
    assert TEXT.index(third) == (TEXT.index(first[0]) + 2) % len(TEXT)


def test_a_forgotten_request_begins_anew() -> None:
    answers = make_answers()
    answers.begin("a", PROMPT, None, None)
    first = answer(answers, "a", 3)
    answers.forget(["a", "never seen"])
    answers.begin("a", PROMPT, None, None)
    assert answer(answers, "a", 3) == first


@pytest.mark.parametrize(
    ("allowed", "expected"), [([5, 3, 7], 7), ([150, 5, 3], 3), ([31, 63], 31), ([255], 255)]
)
def test_a_grammar_is_kept_and_closed_early(allowed: Sequence[int], expected: int) -> None:
    answers = make_answers()
    answers.begin("a", PROMPT, None, None)
    assert answers.next_tokens({"a": 4}, {"a": mask(*allowed)}) == [[expected]]


def test_a_grammar_that_allows_nothing_gets_the_token_that_a_sampler_would_take() -> None:
    answers = make_answers()
    answers.begin("a", PROMPT, None, None)
    assert answers.next_tokens({"a": 4}, {"a": mask()}) == [[0]]
