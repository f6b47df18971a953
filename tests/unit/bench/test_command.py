from pathlib import Path

import pytest

from app.__main__ import main
from tests.unit.bench.scripted_server import KEY, ScriptedServer, scripted_server


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n")
    return path


def bench(server: ScriptedServer, key_file: Path, *options: str) -> int:
    return main(["bench", "--url", server.url, "--key-file", str(key_file), *options])


def test_concurrent_requests_are_in_flight_together_and_faster_than_one_by_one(
    key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with scripted_server("4", "2", pause_s=0.1) as server:
        assert bench(server, key_file, "--requests", "8", "--concurrency", "4") == 0
        assert server.most_in_flight == 4
        assert len(server.bodies) == 16
        assert server.bodies[:8] == sorted_like(server.bodies[8:], server.bodies[:8])
    out = capsys.readouterr().out
    assert "requests       8, 0 failed" in out
    assert "output tokens  24" in out
    assert float(out.split("speed-up")[1].split()[0]) > 1.5


def sorted_like(bodies: list[dict[str, object]], order: list[dict[str, object]]) -> object:
    """`bodies` in the order of their equals in `order`."""
    return sorted(bodies, key=order.index)


def test_whole_answers_have_no_first_token(
    key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with scripted_server("42") as server:
        assert bench(server, key_file, "--requests", "2", "--no-stream") == 0
        assert not any(body["stream"] for body in server.bodies)
    assert "first token    not measured" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("status", "cut", "kind"), [(503, False, "status 503"), (200, True, "cut stream")]
)
def test_failures_are_counted_by_kind_and_fail_the_command(
    status: int, cut: bool, kind: str, key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with scripted_server("42", status=status, cut=cut) as server:
        assert bench(server, key_file, "--requests", "3") == 1
    assert f"error          {kind}: 3" in capsys.readouterr().out


def test_a_missing_key_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--key-file", str(tmp_path / "absent")]) == 2
    assert "absent cannot be read: No such file" in capsys.readouterr().err


def test_no_server_is_one_sentence(key_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--url", "http://127.0.0.1:9", "--key-file", str(key_file)]) == 2
    assert "Nothing answers at http://127.0.0.1:9" in capsys.readouterr().err
