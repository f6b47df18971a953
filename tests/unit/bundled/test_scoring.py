import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.bundled.scoring import Reply, Tally, is_exact, reply_from_text, wilson_interval
from app.bundled.skills import SKILLS, Question, held_out_questions

PLAIN = Question("arithmetic", [], "42", True)
JSON = Question("json", [], {"answer": 42}, True)
CALL = Question("tool", [], {"name": "square", "parameters": {"number": 7}}, True)


@pytest.mark.parametrize("skill", SKILLS)
def test_the_expected_answer_is_exact(skill: str) -> None:
    for question in held_out_questions(skill, 50):
        assert is_exact(question, reply_from_text(question.answer))


@pytest.mark.parametrize(
    ("question", "reply", "exact"),
    [
        (PLAIN, Reply(" 42\n"), True),
        (PLAIN, Reply("42."), False),
        (PLAIN, Reply(""), False),
        (PLAIN, Reply("42", (("square", "{}"),)), False),
        (JSON, Reply('{ "answer" :42}'), True),
        (JSON, Reply('{"answer": 42, "unit": 1}'), False),
        (JSON, Reply('{"answer": 42.0}'), False),
        (JSON, Reply('{"answer": "42"}'), False),
        (JSON, Reply('{"answer": 42'), False),
        (JSON, Reply("42"), False),
        (CALL, Reply(calls=(("square", '{"number": 7}'),)), True),
        (CALL, Reply(calls=(("square", '{"number": 8}'),)), False),
        (CALL, Reply(calls=(("square", '{"number": true}'),)), False),
        (CALL, Reply(calls=(("cube", '{"number": 7}'),)), False),
        (CALL, Reply(calls=(("square", "seven"),)), False),
        (CALL, Reply(calls=(("square", '{"number": 7}'),) * 2), False),
        (CALL, Reply('{"name": "square", "parameters": {"number": 7}}'), False),
        (CALL, Reply("Sure!", (("square", '{"number": 7}'),)), False),
        (CALL, Reply(), False),
    ],
)
def test_only_the_expected_form_counts(question: Question, reply: Reply, exact: bool) -> None:
    assert is_exact(question, reply) is exact


@given(st.text(), st.text(), st.text())
def test_any_reply_can_be_scored(content: str, name: str, arguments: str) -> None:
    for question in (PLAIN, JSON, CALL):
        is_exact(question, Reply(content, ((name, arguments),)))
        is_exact(question, reply_from_text(content))


def test_true_is_not_one_in_a_call() -> None:
    one = Question("tool", [], {"name": "square", "parameters": {"number": 1}}, True)
    assert not is_exact(one, Reply(calls=(("square", json.dumps({"number": True})),)))


@pytest.mark.parametrize(
    ("exact", "asked", "low", "high"),
    # Reference values: R's binom.confint(x, n, methods = "wilson").
    [(0, 10, 0.0, 0.27753), (10, 10, 0.72247, 1.0), (81, 263, 0.25529, 0.36621)],
)
def test_the_wilson_interval_is_the_published_one(
    exact: int, asked: int, low: float, high: float
) -> None:
    assert wilson_interval(exact, asked) == pytest.approx((low, high), abs=2e-4)


@given(st.integers(0, 500), st.integers(1, 500))
def test_the_interval_holds_the_share_and_stays_a_share(exact: int, more: int) -> None:
    tally = Tally(exact + more, exact)
    low, high = tally.interval
    assert 0 <= low <= tally.share <= high <= 1


def test_tallies_add_up() -> None:
    assert Tally(3, 2) + Tally(1, 1) == Tally(4, 3)
    assert Tally().share == 0.0
