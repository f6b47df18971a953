import json
from pathlib import Path

import pytest

from app.__main__ import main
from app.bundled.skills import SKILLS
from app.core.errors import AppError
from app.evaluate.questions import bundled_questions, conversations, read_questions

ROW = {"messages": [{"role": "user", "content": "2 + 2?"}], "answer": "4"}


def test_the_bundled_questions_are_held_out_and_of_every_skill() -> None:
    questions = bundled_questions(5)
    assert len(questions) == 5 * len(SKILLS)
    assert all(question.held_out for question in questions)


def test_a_file_of_questions_is_read(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    rows = [ROW, {**ROW, "skill": "json", "answer": {"sum": 4}, "response_format": {"type": "x"}}]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    plain, structured = read_questions(path)
    assert (plain.skill, plain.expected) == ("questions", "4")
    assert (structured.skill, structured.expected) == ("json", {"sum": 4})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "no questions"),
        ("nonsense", "Line 1 .* not JSON"),
        ("3", "not an object"),
        ('{"messages": []}', "an `answer`"),
        ('{"answer": "4"}', "needs `messages`"),
    ],
)
def test_a_file_that_is_none_is_refused_by_line(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text(content)
    with pytest.raises(AppError, match=says):
        read_questions(path)


def test_questions_with_their_answers_are_the_held_out_text() -> None:
    question = bundled_questions(1)[0]
    text = conversations([question])[0]
    assert text["messages"][-1] == {"role": "assistant", "content": question.answer}


@pytest.mark.parametrize("option", ["--count", "--texts", "--max-answer-tokens"])
def test_nothing_is_no_number_of_questions(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["evaluate", "--baseline", "a", "--candidate", "b", option, "0"])
    assert "it must be at least 1" in capsys.readouterr().err
