"""The plan against every engine start that was measured, and the page that shows it."""

from pathlib import Path

import pytest

from app.__main__ import main
from app.core.errors import AppError
from app.core.memory.knobs import Device
from app.plan import bench_command
from app.plan.bench_command import choose, engine_settings, name_of
from app.plan.bench_models import COMBINATIONS
from app.plan.machine import cpu_device
from app.plan.measurements import (
    Measurement,
    compare,
    gpu_table,
    keep,
    measured_table,
    read_measurements,
)
from app.plan.memory_page import NO_GPU_ROWS, PAGE, refresh, replace_part

GIB = 2**30
KEPT = read_measurements()
GPU_ROW = Measurement(
    combination="llama-8b-w8a8",
    device="A10",
    total_bytes=22 * GIB,
    capability=(8, 6),
    parameter_bytes=9_086_705_664,
    num_blocks=5000,
    kv_tokens=80_000,
    gpu_memory={
        "consumed": 9 * GIB,
        "peak": GIB,
        "graphs": GIB // 4,
        "kv_available": 9 * GIB,
        "total": 22 * GIB,
        "held": 19 * GIB,
    },
)


@pytest.mark.parametrize("measured", KEPT, ids=lambda row: f"{row.device}-{row.combination}")
def test_the_plan_is_within_the_goal_of_what_was_measured(measured: Measurement) -> None:
    assert [each.name for each in compare(measured) if not each.is_within_goal] == []


def test_at_least_twelve_combinations_were_measured_on_the_cpu() -> None:
    assert len({row.combination for row in KEPT if row.is_cpu}) >= 12


def test_the_page_shows_todays_tables() -> None:
    text = PAGE.read_text()
    assert refresh(text) == text


def test_combinations_differ_in_what_memory_depends_on() -> None:
    small = [each for each in COMBINATIONS if not each.is_large]
    assert len({each.name for each in COMBINATIONS}) == len(COMBINATIONS)
    for name in ("is_w8a8", "max_model_len", "max_num_seqs", "kv_cache_dtype", "kv_bytes"):
        assert len({getattr(each, name) for each in small}) > 1, name
    for key in ("num_hidden_layers", "num_key_value_heads", "hidden_size", "vocab_size"):
        assert len({each.config_json[key] for each in small}) > 1, key


def test_models_of_full_size_are_left_to_gpus() -> None:
    assert not any(each.is_large for each in choose((), cpu_device()))
    with pytest.raises(AppError, match="no combination 'nonsense'"):
        choose(["nonsense"], cpu_device())


def test_on_the_cpu_the_kv_memory_is_fixed_and_on_a_gpu_it_is_what_is_left() -> None:
    combination = COMBINATIONS[0]
    assert engine_settings(combination, cpu_device())["kv_cache_memory_bytes"] == 100 * 2**20
    gpu = Device("A10", 22 * GIB, 22 * GIB, (8, 6))
    settings = engine_settings(combination, gpu)
    assert settings["gpu_memory_utilization"] == 0.9
    assert "kv_cache_memory_bytes" not in settings


def test_a_gpus_row_compares_everything_beside_the_kv_cache() -> None:
    weights, _, total = compare(GPU_ROW)
    assert weights.error == 0
    assert total.actual == 10 * GIB
    rows = [row.split(" | ") for row in gpu_table([GPU_ROW])][2:]
    actual = {part: gib for _, _, part, _, gib, _ in rows}
    assert actual == {
        "weights": "8.463",
        "rotary table and runtime": "0.537",
        "activations": "0.750",
        "CUDA graphs": "0.250",
        "total": "10.000",
        "KV cache": "9.000",
        "everything": "19.000",
    }
    assert "80,000" in list(measured_table([GPU_ROW]))[-1]


def test_a_gpus_row_says_under_which_versions_it_was_measured() -> None:
    versions = {"vllm": "0.32.0", "torch": "2.11.0"}
    gpu = Device("A10", 22 * GIB, 22 * GIB, (8, 6))
    assert name_of(gpu, versions) == "A10, vLLM 0.32.0, torch 2.11.0"
    assert name_of(cpu_device(), versions) == cpu_device().name


def test_a_gpu_starts_with_the_models_of_full_size() -> None:
    gpu = Device("A10", 22 * GIB, 22 * GIB, (8, 6))
    sizes = [each.is_large for each in choose((), gpu)]
    assert len(sizes) == len(COMBINATIONS)
    assert sizes == sorted(sizes, reverse=True)


def test_a_new_measurement_takes_the_place_of_the_older_one(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    keep(GPU_ROW, path)
    keep(GPU_ROW, path)
    assert read_measurements(path) == [GPU_ROW]


def test_without_gpu_rows_the_page_says_that_all_is_estimated() -> None:
    assert any(not row.is_cpu for row in KEPT) or NO_GPU_ROWS in PAGE.read_text()


def test_a_page_without_the_comments_is_refused() -> None:
    with pytest.raises(AppError, match="no part between"):
        replace_part("a page", "cards", [])


@pytest.fixture
def fake_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_command, "PROBE", "tests.unit.plan.fake_probe")
    monkeypatch.setattr(bench_command, "find_device", cpu_device)
    monkeypatch.setenv("PYTHONPATH", str(PAGE.parents[1]))


@pytest.mark.usefixtures("fake_probe")
def test_the_command_prints_and_keeps_what_the_engine_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.json"
    assert main(["bench-memory", "gqa-w8a8", "--results", str(path)]) == 0
    (row,) = read_measurements(path)
    assert (row.combination, row.num_blocks, row.kv_tokens) == ("gqa-w8a8", 400, 51_200)
    assert "+0.00%" in capsys.readouterr().out


@pytest.mark.usefixtures("fake_probe")
def test_an_error_above_the_goal_ends_with_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.json"
    assert main(["bench-memory", "gqa-bf16", "--results", str(path)]) == 1
    assert "above the goal of 1%" in capsys.readouterr().out


@pytest.mark.usefixtures("fake_probe")
def test_an_engine_that_fails_is_an_error_with_its_last_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.json"
    assert main(["bench-memory", "many-sequences", "--results", str(path)]) == 2
    said = capsys.readouterr().err
    assert "out of memory" in said
    assert "The engine ended with 3" in said
