"""The process that holds the engine: what it answers, and that it does not outlive its use."""

import os
import sys
import time
from pathlib import Path

import pytest

from app.bench.gpu import offline_engine
from app.bench.gpu.offline_engine import (
    Case,
    EngineError,
    EnginePlan,
    OfflineEngine,
    read_ceilings,
)

pytestmark = pytest.mark.usefixtures("stand_in")
SOON_S = 120


def plan(folder: Path, **settings: object) -> EnginePlan:
    return EnginePlan(folder / "model", settings, folder / "logs" / "engine.log")


def soon() -> float:
    return time.monotonic() + SOON_S


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_it_says_what_it_loaded_and_answers_each_case(tmp_path: Path) -> None:
    with OfflineEngine(plan(tmp_path)) as engine:
        assert engine.loaded(soon())["kv_tokens"] == 123456
        runs = engine.run(Case(4, 16, 32, repeat=2), soon())
        assert [run["wall_s"] for run in runs] == [0.032, 0.032]
        assert engine.run(Case(1, 16, 1), soon())[0]["num_steps"] == 1
    assert "INFO: loading" in (tmp_path / "logs" / "engine.log").read_text()


def test_an_engine_that_ends_is_an_error_that_names_its_log(tmp_path: Path) -> None:
    with (
        pytest.raises(EngineError, match=r"The engine ended; its log is .*engine\.log"),
        OfflineEngine(plan(tmp_path, broken=True)) as engine,
    ):
        engine.loaded(soon())
    assert "no kernel image" in (tmp_path / "logs" / "engine.log").read_text()


def test_one_that_ends_in_a_case_too(tmp_path: Path) -> None:
    with OfflineEngine(plan(tmp_path)) as engine:
        engine.loaded(soon())
        with pytest.raises(EngineError, match="ended"):
            engine.run(Case(13, 16, 32), soon())


def test_one_that_hangs_is_left_at_the_deadline_and_killed(tmp_path: Path) -> None:
    with (
        pytest.raises(EngineError, match="did not answer in time"),
        OfflineEngine(plan(tmp_path)) as engine,
    ):
        engine.loaded(soon())
        pid = engine.pid
        engine.run(Case(14, 16, 32), time.monotonic() + 0.2)
    assert not is_running(pid)


def test_the_ceilings_are_read_from_among_other_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "print('INFO'); print('report: {\"bytes_per_s\": 5}')"
    monkeypatch.setattr(offline_engine, "CEILINGS", (sys.executable, "-c", script))
    assert read_ceilings(SOON_S, tmp_path / "log") == {"bytes_per_s": 5}


def test_ceilings_that_fail_name_their_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import sys; sys.exit('no torch')"
    monkeypatch.setattr(offline_engine, "CEILINGS", (sys.executable, "-c", script))
    with pytest.raises(EngineError, match="ceilings"):
        read_ceilings(SOON_S, tmp_path / "log")
    assert "no torch" in (tmp_path / "log").read_text()


def test_ceilings_that_hang_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "import time; time.sleep(60)"
    monkeypatch.setattr(offline_engine, "CEILINGS", (sys.executable, "-c", script))
    with pytest.raises(EngineError, match="longer"):
        read_ceilings(0.5, tmp_path / "log")
