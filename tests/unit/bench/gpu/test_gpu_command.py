"""`bench-gpu` from the command line, the engine's process replaced by a stand-in."""

import json
import sys
from pathlib import Path

import pytest

from app.__main__ import main
from app.bench.gpu import offline_engine
from app.bench.gpu.modes import Loads, Mode, parse_modes
from app.bench.gpu.offline_engine import Case
from app.bench.gpu.results import read_journal
from app.core.errors import AppError

CEILINGS = {"bytes_per_s": 1e9, "operations_per_s": {"bf16": 1e12, "int8": 2e12}}
PAGE = "before\n<!-- engine: begin -->\nold\n<!-- engine: end -->\nafter\n"


@pytest.fixture
def options(stand_in: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    script = f"print('report: {json.dumps(CEILINGS)}')"
    monkeypatch.setattr(offline_engine, "CEILINGS", (sys.executable, "-c", script))
    results = str(tmp_path / "results.jsonl")
    return [
        *("bench-gpu", "--shape", "tiny", "--checkpoints", str(tmp_path), "--results", results),
        *("--prompt-tokens", "16", "--output-tokens", "64", "--prefill", "32"),
        *("--prefill-tokens", "128"),
    ]


def test_tables_have_what_was_measured(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    assert main([*options, "--modes", "int8,bf16", "--sequences", "4,2", "--write", str(page)]) == 0
    out = capsys.readouterr().out
    assert "a stand-in, driver 580.1, vLLM 0.32.0" in out
    assert "| int8 | CompressedTensorsW8A8Int8/CutlassInt8ScaledMMLinearKernel x 8 | 1.00 |" in out
    assert "| 4 | bf16 | 4000 | 4000 | 1.00 | 2.00 |" in out
    assert "- 4 sequences: INT8 W8A8 gives 1.00 x BF16's output." in out
    assert "| 32 | int8 | 4 | 128000 |" in out
    assert "memory 1 GB/s" in out
    assert page.read_text().startswith("before\n")
    assert "4 sequences" in page.read_text()
    assert "old" not in page.read_text()


def test_a_mode_that_fails_is_named_and_the_next_one_is_measured(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """13 sequences end the stand-in: what came before is kept."""
    assert main([*options, "--modes", "int8,bf16", "--sequences", "4,13"]) == 1
    lines = read_journal(tmp_path / "results.jsonl")
    said = [(line["kind"], line.get("mode")) for line in lines]
    each = ["loaded", "case", "failed"]
    modes = [(kind, mode) for mode in ("int8", "bf16") for kind in each]
    assert said == [("ceilings", None), *modes]
    assert "- bf16: The engine ended" in capsys.readouterr().out


def test_without_ceilings_the_modes_are_measured_all_the_same(
    options: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(offline_engine, "CEILINGS", (sys.executable, "-c", "raise SystemExit(1)"))
    assert main([*options, "--modes", "int8", "--sequences", "4"]) == 1
    kinds = [line["kind"] for line in read_journal(tmp_path / "results.jsonl")]
    assert kinds[:2] == ["loaded", "case"] and "failed" not in kinds
    assert "ceilings could not be measured" in capsys.readouterr().out


def test_no_engine_is_started_when_the_time_is_over(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*options, "--modes", "int8", "--limit-s", "1", "--no-ceilings"]) == 1
    assert "no time was left" in capsys.readouterr().out
    assert [line["kind"] for line in read_journal(tmp_path / "results.jsonl")] == ["failed"]


def test_settings_go_to_every_mode_and_tables_can_be_made_later(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = ["--modes", "int8", "--sequences", "2", "--no-ceilings", "--engine", '{"broken": 1}']
    assert main([*options, *broken]) == 1
    assert main([*options, "--modes", "int8", "--sequences", "2", "--no-ceilings"]) == 0
    capsys.readouterr()
    assert main([*options, "--tables-only"]) == 0
    out = capsys.readouterr().out
    assert "| 2 | int8 | 2000 |" in out
    assert "The engine ended" not in out
    assert "no share of a roofline" in out


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("--modes", "int4", "int4"),
        ("--modes", "int8/int8-kv", "int8-kv"),
        ("--sequences", "1,many", "--sequences"),
        ("--prefill", "0", "--prefill"),
        ("--engine", "[]", "--engine"),
    ],
)
def test_an_option_that_cannot_be_is_named(
    options: list[str], option: str, value: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*options, option, value]) != 0
    assert sentence in capsys.readouterr().err


def test_a_mode_is_weights_and_cache() -> None:
    assert parse_modes("int8, bf16/fp8-kv") == [Mode("int8"), Mode("bf16", has_fp8_kv=True)]
    assert [mode.kv_cache_dtype for mode in parse_modes("fp8,fp8/fp8-kv")] == ["auto", "fp8"]
    assert Mode("fp8", has_fp8_kv=True).name == "fp8/fp8-kv"


def test_the_loads_that_matter_most_come_first() -> None:
    cases = Loads((64, 256, 1), 128, 256, (4096, 1024), 8192, 3).cases()
    assert cases[:2] == [Case(64, 128, 256), Case(256, 128, 256)]
    assert cases[2:] == [Case(2, 4096, 1), Case(8, 1024, 1), Case(1, 128, 256)]


def test_results_that_cannot_be_read_are_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "broken").write_text("{")
    for name in ("broken", "missing"):
        with pytest.raises(AppError, match=name):
            read_journal(tmp_path / name)
