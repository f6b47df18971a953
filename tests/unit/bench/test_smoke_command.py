import pytest

from app.__main__ import main
from tests.unit.bench.scripted_server import KEY, scripted_server


def test_a_server_that_does_its_job_passes(capsys: pytest.CaptureFixture[str]) -> None:
    with scripted_server("4", "2") as server:
        assert main(["smoke", "--url", server.url, "--api-key", KEY]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["ok"] * 4 + ["4"]


def test_a_key_that_the_server_refuses_fails(capsys: pytest.CaptureFixture[str]) -> None:
    with scripted_server("42") as server:
        assert main(["smoke", "--url", server.url, "--api-key", "not-a-key"]) == 1
    assert "FAILED  chat: answered 401" in capsys.readouterr().out


def test_a_cut_stream_fails(capsys: pytest.CaptureFixture[str]) -> None:
    with scripted_server("42", cut=True) as server:
        assert main(["smoke", "--url", server.url, "--api-key", KEY]) == 1
    assert "FAILED  stream: the stream did not end" in capsys.readouterr().out


def test_an_empty_answer_fails(capsys: pytest.CaptureFixture[str]) -> None:
    with scripted_server("") as server:
        assert main(["smoke", "--url", server.url, "--api-key", KEY]) == 1
    assert "FAILED  chat: the answer is empty" in capsys.readouterr().out


def test_no_server_fails_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["smoke", "--url", "http://127.0.0.1:9", "--api-key", KEY]) == 1
    assert "FAILED  models: Nothing answers at" in capsys.readouterr().out
