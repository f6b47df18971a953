"""The score command against a chat server that knows some of the answers."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from app.__main__ import main
from app.bundled.recorded_score import RecordError, read_record
from app.bundled.skills import SKILLS, Question, held_out_questions

KEY = "a-good-key"


@cache
def knowledge() -> dict[str, Question]:
    known = {}
    for skill in SKILLS:
        for question in held_out_questions(skill, 400):
            known[json.dumps([question.messages, question.tools])] = question
    return known


class Pupil(ThreadingHTTPServer):
    """Answers right, except in the `wrong` skill; `status` other than 200 refuses everything."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, wrong: str | None, status: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.known = knowledge()
        self.wrong = wrong
        self.status = status
        self.bodies: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def message(self, body: dict[str, Any]) -> dict[str, Any]:
        question = self.known[json.dumps([body["messages"], body.get("tools")])]
        if question.skill == self.wrong:
            return {"content": "I do not know."}
        if question.skill != "tool":
            return {"content": question.answer}
        assert isinstance(question.expected, dict)
        arguments = json.dumps(question.expected["parameters"])
        function = {"name": question.expected["name"], "arguments": arguments}
        return {"content": None, "tool_calls": [{"type": "function", "function": function}]}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Pupil

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.reply(200, {"data": [{"id": "pupil"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        if self.server.status != 200 or self.headers["Authorization"] != f"Bearer {KEY}":
            self.reply(max(self.server.status, 401), {"error": {}})
        else:
            self.reply(200, {"choices": [{"message": self.server.message(body)}]})

    def reply(self, status: int, content: dict[str, Any]) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def pupil(wrong: str | None = None, status: int = 200) -> Iterator[Pupil]:
    server = Pupil(wrong, status)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def score(server: Pupil, *options: str) -> int:
    return main(["score", "--url", server.url, "--api-key", KEY, *options])


def test_every_skill_is_asked_and_scored(capsys: pytest.CaptureFixture[str]) -> None:
    with pupil(wrong="json") as server:
        assert score(server, "--questions", "90", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["model"] == "pupil"
    exact = {skill: (one["exact"], one["asked"]) for skill, one in report["scores"].items()}
    assert exact == {"arithmetic": (30, 30), "json": (0, 30), "tool": (30, 30), "total": (60, 90)}
    assert report["scores"]["total"]["interval_95"] == pytest.approx([0.5643, 0.7555], abs=1e-3)


def test_questions_are_greedy_and_carry_their_tools_and_format() -> None:
    with pupil() as server:
        score(server, "--questions", "30")
    assert all(body["temperature"] == 0 for body in server.bodies)
    assert sum(body.get("tool_choice") == "auto" for body in server.bodies) == 10
    assert sum("response_format" in body for body in server.bodies) == 10


def test_the_table_shows_share_and_interval(capsys: pytest.CaptureFixture[str]) -> None:
    with pupil() as server:
        assert score(server, "--questions", "50", "--skill", "tool") == 0
    lines = capsys.readouterr().out.strip().splitlines()[1:]
    assert lines[1].split()[:4] == ["tool", "50", "50", "100.00%"]
    assert lines[2].startswith("total")


@pytest.mark.parametrize("status", [401, 500])
def test_a_refused_question_ends_the_run_in_one_sentence(
    status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pupil(status=status) as server:
        assert score(server, "--questions", "20") == 2
    assert f"answered a question with {status}, not 200" in capsys.readouterr().err


def test_by_default_more_than_a_thousand_questions_are_asked() -> None:
    with pupil() as server:
        assert score(server) == 0
    assert len(server.bodies) == 1200


def test_more_questions_than_there_are_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pupil() as server:
        assert score(server, "--questions", "20001") == 2
    assert "at most 20000" in capsys.readouterr().err


def test_a_score_is_held_against_the_recorded_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """60 of 90 were right then; all of 90 are not that model's score, and 60 of 60 another test."""
    record = tmp_path / "score.json"
    with pupil(wrong="json") as server:
        assert score(server, "--questions", "90", "--record", str(record)) == 0
        assert score(server, "--questions", "90", "--compare", str(record)) == 0
        assert "pupil: 66.67%, within the recorded 66.67% (56.42% to 75.55%)" in (
            capsys.readouterr().out
        )
        assert score(server, "--questions", "60", "--compare", str(record)) == 2
        assert "no pupil asked 60 questions" in capsys.readouterr().err
    with pupil() as server:
        assert score(server, "--questions", "90", "--compare", str(record)) == 1
        assert "OUTSIDE" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "[]", '{"pupil": {}}', '{"pupil": {"total": 7}}'])
def test_a_record_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "score.json").write_text(text)
    with pytest.raises(RecordError, match=r"score\.json cannot be read"):
        read_record(tmp_path / "score.json")
