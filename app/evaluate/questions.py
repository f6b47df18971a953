"""What is asked: the bundled held-out questions, or a local file of the same form."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.bundled.skills import SKILLS, Question, held_out_questions
from app.core.errors import AppError
from app.core.json_lines import read_json_lines

DEFAULT_SKILL = "questions"


def bundled_questions(count: int) -> list[Question]:
    """`count` held-out questions of each skill."""
    return [question for skill in SKILLS for question in held_out_questions(skill, count)]


def read_questions(path: Path) -> list[Question]:
    """JSON lines of `messages` and `answer`: a text, the object of a JSON reply, or for the skill
    `tool` the call `{"name": ..., "parameters": {...}}`; `skill`, `tools` and `response_format`
    may be there too."""
    questions = [parse_question(row, number, path) for number, row in read_json_lines(path)]
    if not questions:
        raise AppError(f"{path} has no questions.")
    return questions


def parse_question(row: dict[str, Any], number: int, path: Path) -> Question:
    messages, answer = row.get("messages"), row.get("answer")
    if not isinstance(messages, list) or not isinstance(answer, str | dict):
        raise AppError(f"Line {number} of {path} needs `messages` and an `answer`.")
    return Question(
        skill=str(row.get("skill", DEFAULT_SKILL)),
        messages=messages,
        expected=answer,
        held_out=True,
        tools=row.get("tools"),
        response_format=row.get("response_format"),
    )


def conversations(questions: Sequence[Question]) -> list[dict[str, Any]]:
    """Held-out text where none is given: the questions with their answers."""
    return [
        {
            "messages": [*question.messages, {"role": "assistant", "content": question.answer}],
            "tools": question.tools,
        }
        for question in questions
    ]
