"""The servers of `bench-served`: alike in everything but what stands before the engine."""

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from app.__main__ import main
from app.bench.campaign import Measurement, Subject
from app.bench.generator import GeneratorLoad, Run
from app.bench.gpu.offline_engine import Case, OfflineEngine
from app.bench.gpu.served import Alternation, OfflineRun, Served, StreamLoad, share_lines
from app.bench.gpu.served_command import write_json
from app.bench.outcome import Outcome
from app.bench.server_process import ServerPlan, free_port, python_path
from app.bench.statistics import summarize
from app.bench.target import Target
from tests.unit.bench.scripted_server import KEY


def served(folder: Path, *, is_eager: bool = False) -> Served:
    return Served(
        model=Path("model"),
        folder=folder,
        num_seqs=512,
        max_model_len=4096,
        step_tokens=8192,
        gpu_share=0.28,
        is_eager=is_eager,
    )


def test_all_three_get_the_same_engine_settings(tmp_path: Path) -> None:
    bench = served(tmp_path)
    stock, gateway = list(bench.stock().arguments), list(bench.gateway().arguments)
    for name, value in bench.settings.items():
        option = f"--{name.replace('_', '-')}"
        assert stock[stock.index(option) + 1] == str(value)
        assert f"engine.{name}={value}" in gateway
        assert bench.offline().settings[name] == value
    assert "--enforce-eager" not in stock


def test_eager_is_a_flag_for_stock_and_a_setting_for_the_others(tmp_path: Path) -> None:
    bench = served(tmp_path, is_eager=True)
    assert bench.stock().arguments[-1] == "--enforce-eager"
    assert "engine.enforce_eager=true" in bench.gateway().arguments
    assert bench.offline().settings["enforce_eager"] is True


def test_a_load_is_one_answer_for_each_stream() -> None:
    load = StreamLoad(8, prompt_words=5, output_tokens=32).load()
    assert load.name == "8 streams"
    assert [ask.output_tokens for ask in load.workload.asks] == [32] * 8


def measurement(target: str, tokens: int) -> Measurement:
    outcomes = [Outcome(due_s=0, ended_s=1.0, num_output_tokens=tokens, num_prompt_tokens=40)]
    run = Run(outcomes, GeneratorLoad(cpu_s=0.1, wall_s=1, lag_s=0.0))
    return Measurement(target, "8 streams", 0, run, summarize(outcomes), server_cpu_s=0.1)


def test_a_servers_share_is_of_the_engine_alone() -> None:
    subjects = [Subject(Target(name, ""), "m") for name in ("stock", "gateway")]
    alternation = Alternation(
        subjects,
        measurements=[measurement("stock", 80), measurement("gateway", 97)],
        offline=[OfflineRun("8 streams", rate) for rate in (90.0, 100.0, 500.0)],
    )
    _, _, row = share_lines(alternation)
    assert row == "| 8 streams | 100 | 80.0% | 97.0% |"
    assert list(share_lines(Alternation(subjects))) == []


def test_the_engine_alone_gets_prompts_as_long_as_the_servers_did(
    tmp_path: Path, stand_in: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Engine(OfflineEngine):
        def run(self, case, deadline_s):  # type: ignore[no-untyped-def]
            asked.append(case)
            return [{"wall_s": 2.0}]

    monkeypatch.setattr(
        "app.bench.gpu.served.Campaign.measure", lambda *_: measurement("stock", 80)
    )
    alternation = Alternation(
        [Subject(Target("stock", ""), "m")], Engine(served(tmp_path).offline())
    )
    alternation.run_round(StreamLoad(8, 5, 32), 0, 0.0, io.StringIO())
    assert asked == [Case(8, 5, 32, repeat=1)]
    assert alternation.offline == [OfflineRun("8 streams", 8 * 32 / 2.0)]


@pytest.mark.parametrize("peers", ["offline", "stock,litellm", ""])
def test_peers_have_to_be_known_and_one_a_server(
    peers: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench-served", "--model", "model", "--peers", peers]) != 0
    assert "--peers" in capsys.readouterr().err


def test_tables_can_be_put_into_a_page_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, results = tmp_path / "page.md", tmp_path / "served.json"
    page.write_text("<!-- served: begin -->\nold\n<!-- served: end -->\n")
    subjects = [Subject(Target(name, ""), "m") for name in ("stock", "gateway")]
    found = [measurement("stock", 80), measurement("gateway", 97)]
    write_json(results, Alternation(subjects, None, found, [OfflineRun("8 streams", 100.0)]))
    options = ["--tables-only", "--json", str(results), "--write", str(page)]
    assert main(["bench-served", *options]) == 0
    assert "| 8 streams | gateway | 97 (1.21) |" in page.read_text()
    assert "| 8 streams | 100 | 80.0% | 97.0% |" in capsys.readouterr().out
    results.write_text("{}")
    assert main(["bench-served", *options]) != 0
    assert "cannot be read" in capsys.readouterr().err


SERVE = """
import sys
from tests.unit.bench.scripted_server import ScriptedServer
chunks = ["a", "b", "c"]
ScriptedServer(chunks, cut=False, status=200, pause_s=0, port=int(sys.argv[1])).serve_forever()
"""


def scripted_plan(name: str, key_file: Path) -> ServerPlan:
    port = free_port()
    environment = {"PYTHONPATH": python_path()}
    command = [sys.executable, "-c", SERVE, str(port)]
    return ServerPlan(name, command, port, environment, key_file=key_file)


def test_servers_and_engine_are_started_measured_in_turn_and_written_down(
    tmp_path: Path, stand_in: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text(KEY)
    for name in ("stock", "gateway"):
        plan = scripted_plan(name, tmp_path / "key")
        monkeypatch.setattr(Served, name, lambda _, plan=plan: plan)
    monkeypatch.setattr("app.bench.gpu.served_command.FOLDER", tmp_path)
    results = tmp_path / "served.json"
    options = ["--streams", "4,2", "--output-tokens", "3", "--repeat", "2", "--json", str(results)]
    assert main(["bench-served", "--model", str(tmp_path), *options]) == 0
    written = json.loads(results.read_text())
    order = [(each["load"], each["target"]) for each in written["measurements"]]
    assert order[:4] == [
        ("4 streams", "stock"),
        ("4 streams", "gateway"),
        ("4 streams", "gateway"),
        ("4 streams", "stock"),
    ]
    assert len(order) == 8
    # The stand-in takes 3 ms for an answer of 3 tokens.
    rates = [(each["load"], round(each["tokens_per_s"])) for each in written["offline"]]
    assert rates == [("4 streams", 4000)] * 2 + [("2 streams", 2000)] * 2
    assert any(line.startswith("| 4 streams | 4000 |") for line in written["tables"])


def test_the_gateway_takes_its_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = replace(served(tmp_path, is_eager=True), model=Path("models/bundled/w8a8"))
    _, _, _, *words = bench.gateway().arguments
    assert main([*words, "--check"]) == 0
    assert "max_num_batched_tokens" not in capsys.readouterr().err
