import json
import os
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
    target = ["--url", server.url, "--key-file", str(key_file)]
    return main(["bench", *target, "--warm-up", "0", *options])


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
    assert f"error          closed:16 server: {kind}: 3" in capsys.readouterr().out


def test_the_warm_up_is_sent_and_not_counted(
    key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with scripted_server("42") as server:
        options = ["--requests", "2", "--no-one-by-one", "--warm-up", "3"]
        assert bench(server, key_file, *options) == 0
        assert len(server.bodies) == 5
    assert "requests       2, 0 failed" in capsys.readouterr().out


def test_several_targets_are_compared_under_several_loads(
    key_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pid = os.getpid()
    with scripted_server("4", "2", pause_s=0.02) as one, scripted_server("42") as other:
        targets = ["--target", f"one={one.url}", "--target", f"other={other.url}"]
        loads = ["--concurrency", "2", "--arrivals", "poisson:200", "--requests", "8"]
        goals = ["--latency-ms", "60000", "--repeat", "2", "--pid", f"other={pid}"]
        files = ["--json", str(tmp_path / "a" / "report.json"), "--plots", str(tmp_path / "plots")]
        assert bench(one, key_file, *targets, *loads, *goals, *files) == 0
        assert len(one.bodies) == len(other.bodies) == 8 * 2 * 2
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row.split()[1:4:2] for row in rows[2:]] == [
        ["closed:2", "one"],
        ["closed:2", "other"],
        ["poisson:200", "one"],
        ["poisson:200", "other"],
    ]
    report = json.loads((tmp_path / "a" / "report.json").read_text())
    assert len(report["measurements"]) == 8
    by_target = {row["target"]: row for row in report["medians"]}
    assert by_target["one"]["server_cpu_us_per_token"] is None
    assert by_target["other"]["server_cpu_us_per_token"] > 0
    assert by_target["one"]["good_requests_per_s"] == by_target["one"]["requests_per_s"]
    assert by_target["one"]["output_tokens"] == 24
    assert {path.name for path in (tmp_path / "plots").iterdir()} >= {
        "latency-under-closed-2.svg",
        "time-to-first-token-under-poisson-200.svg",
        "throughput-against-latency.svg",
    }


def test_repetitions_ask_for_the_same_and_no_prompt_twice(key_file: Path) -> None:
    with scripted_server("42") as server:
        sizes = ["--prompt-words", "lognormal:20:0.5", "--output-tokens", "lognormal:9:0.5"]
        assert bench(server, key_file, "--requests", "4", "--repeat", "2", *sizes) == 0
        lengths = [body["max_tokens"] for body in server.bodies]
        assert sorted(lengths[:4]) == sorted(lengths[4:])
        assert len({str(body["messages"]) for body in server.bodies}) == 8


def test_a_trace_says_when_and_how_much(key_file: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text(
        '{"at_s": 0.2, "prompt_words": 5, "output_tokens": 3}\n'
        '{"at_s": 0.0, "prompt_words": 2, "output_tokens": 7}\n'
    )
    with scripted_server("42") as server:
        assert bench(server, key_file, "--trace", str(trace)) == 0
        assert [body["max_tokens"] for body in server.bodies] == [7, 3]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--arrivals", "poisson"], "'poisson' is none of"),
        (["--output-tokens", "many"], "'many' is neither"),
        (["--pid", "other=1"], "--pid names other, which is no target"),
        (["--pid", "999999999"], "The process 999999999 is not there"),
    ],
)
def test_bad_options_are_one_sentence(
    options: list[str], sentence: str, key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with scripted_server("42") as server:
        assert bench(server, key_file, *options) == 2
    assert sentence in capsys.readouterr().err


def test_a_missing_key_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--key-file", str(tmp_path / "absent")]) == 2
    assert "absent cannot be read: No such file" in capsys.readouterr().err


def test_no_server_is_one_sentence(key_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--url", "http://127.0.0.1:9", "--key-file", str(key_file)]) == 2
    assert "Nothing answers at http://127.0.0.1:9" in capsys.readouterr().err
