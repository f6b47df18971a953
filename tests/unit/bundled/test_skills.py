import json
import random
from itertools import islice

import pytest

from app.bundled.curriculum import training_questions
from app.bundled.functions import FUNCTIONS, WORDS
from app.bundled.skills import SKILLS, Question, held_out_questions
from app.bundled.smalltalk import draw_declined_tool, draw_dialogue, draw_tool_result


def fact(question: Question) -> str:
    """What a question is about, whatever its phrasing: what must not be in both halves."""
    if question.skill == "tool":
        assert isinstance(question.expected, dict)
        return f"{question.expected['name']} {[*question.expected['parameters'].values()]}"
    text = question.messages[-1]["content"].split(" Answer")[0].split(" Reply")[0].split(" Give")[0]
    digits = "".join(character if character.isdigit() else " " for character in text).split()
    kind = "+" if any(sign in text for sign in ("+", "plus", "Add")) else "-"
    return f"{kind} {sorted(map(int, digits))}"


@pytest.mark.parametrize("skill", SKILLS)
def test_held_out_and_training_questions_share_no_fact(skill: str) -> None:
    held_out = {fact(question) for question in held_out_questions(skill, 500)}
    training = {fact(question) for question in islice(training_questions(skill, 1), 5000)}
    assert len(training) > 500
    assert held_out.isdisjoint(training)


def test_a_sum_held_out_in_plain_chat_is_held_out_in_json_too() -> None:
    held_out = {fact(question) for question in held_out_questions("arithmetic", 500)}
    training = {fact(question) for question in islice(training_questions("json", 1), 5000)}
    assert held_out.isdisjoint(training)


@pytest.mark.parametrize("skill", SKILLS)
def test_held_out_questions_are_distinct_and_the_same_each_time(skill: str) -> None:
    questions = held_out_questions(skill, 400)
    assert questions == held_out_questions(skill, 400)
    asked = {json.dumps([question.messages, question.tools]) for question in questions}
    assert len(asked) == 400


def test_sums_are_right() -> None:
    for question in held_out_questions("arithmetic", 300):
        text = question.messages[-1]["content"]
        numbers = "".join(one if one.isdigit() else " " for one in text).split()
        a, b = (int(number) for number in numbers)
        if "Subtract" in text:
            a, b = b, a
        adds = any(sign in text for sign in ("+", "plus", "Add"))
        assert question.expected == str(a + b if adds else a - b), text
        assert max(a, b) < 100


def test_a_json_answer_fits_the_format_that_the_question_asks_for() -> None:
    for question in held_out_questions("json", 100):
        assert question.response_format is not None
        schema = question.response_format["json_schema"]["schema"]
        (key,) = json.loads(question.answer)
        assert schema["required"] == [key]
        assert f'"{key}"' in question.messages[-1]["content"]


def test_a_call_fits_the_function_that_is_offered() -> None:
    for question in held_out_questions("tool", 100):
        assert question.tools is not None
        (function,) = (tool["function"] for tool in question.tools)
        call = json.loads(question.answer)
        assert call["name"] == function["name"]
        assert list(call["parameters"]) == function["parameters"]["required"]
        ((value,), (schema,)) = (
            call["parameters"].values(),
            function["parameters"]["properties"].values(),
        )
        assert isinstance(value, str) == (schema["type"] == "string")


def test_the_catalogue_is_well_formed() -> None:
    for function in FUNCTIONS:
        assert function.takes in {"number", *WORDS}
        assert all(request.count("{}") == 1 for request in function.requests)
    assert len({function.name for function in FUNCTIONS}) == len(FUNCTIONS)


@pytest.mark.parametrize("draw", [draw_dialogue, draw_declined_tool, draw_tool_result])
def test_unscored_questions_keep_held_out_facts_out_of_training(draw: object) -> None:
    assert callable(draw)
    rng = random.Random(3)
    drawn = [draw(rng) for _ in range(300)]
    assert {question.held_out for question in drawn} == {True, False}
