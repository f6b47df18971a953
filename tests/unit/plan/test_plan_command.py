"""`python -m app plan`, as people call it."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml

from app.__main__ import main
from app.plan import gpu_detection
from tests.unit.core.memory.models import LLAMA_31_8B, quantized


@pytest.fixture(autouse=True)
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_detection, "LIBRARY", "libno-such-library.so")


def plan(*arguments: object) -> int:
    return main(["plan", *map(str, arguments)])


def values(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, object]:
    plan(*arguments, "--json")
    read: dict[str, object] = json.loads(capsys.readouterr().out)
    return read


def test_the_table_shows_what_w8a8_buys(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan("--gpu", "a10") == 0
    said = capsys.readouterr().out
    assert "8.46 GiB" in said
    assert "weights 14.96 GiB instead of 8.46 GiB" in said
    assert "128 KiB per token" in said
    assert "\nIt fits. What is marked" in said


def test_estimates_are_marked(capsys: pytest.CaptureFixture[str]) -> None:
    plan("--gpu", "a10")
    lines = capsys.readouterr().out.splitlines()
    for name in ("activations", "CUDA graphs", "runtime", "KV cache  ", "beside it"):
        line = next(line for line in lines if line.strip().startswith(name))
        assert "estimate" in line


def test_the_cards_come_with_the_word_that_they_are_estimates(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert plan("--cards") == 0
    said = capsys.readouterr().out
    assert "| A10 |" in said
    assert "Estimates: none of these cards has been measured." in said


def test_json_holds_the_same_in_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    read = values(capsys, "--gpu", "h100")
    assert read["weights_16_bit"] == 8_030_261_248 * 2
    assert read["fits"] is True
    assert read["estimates"] == ["activations", "CUDA graphs", "runtime"]


def test_what_does_not_fit_ends_with_1_and_three_ways(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan("--vram", "12GiB", "--max-model-len", 131072) == 1
    said = capsys.readouterr().out
    assert "It does not fit: " in said
    assert "  3. " in said


def test_an_explicit_value_is_planned_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    read = values(capsys, "--gpu", "a10", "--max-model-len", 5000, "--kv-cache-dtype", "fp8")
    now = read["settings"]
    assert isinstance(now, dict)
    assert (now["max_model_len"], now["kv_cache_dtype"]) == (5000, "fp8")


def test_a_wanted_concurrency_gives_the_longest_context(capsys: pytest.CaptureFixture[str]) -> None:
    plan("--gpu", "a10", "--concurrency", 32)
    assert "For 32 sequences at once: max_model_len up to 2," in capsys.readouterr().out


def test_what_was_set_by_hand_is_held_against_the_planners_choice(
    capsys: pytest.CaptureFixture[str],
) -> None:
    plan("--gpu", "a10", "--max-model-len", 32768)
    said = capsys.readouterr().out
    assert "would choose: max_model_len 32768 for 16384. That gives 2 sequences of" in said
    plan("--gpu", "a10", "--max-model-len", 16384)
    assert "would choose" not in capsys.readouterr().out


def test_several_gpus_are_shown_beside_one(capsys: pytest.CaptureFixture[str]) -> None:
    read = values(capsys, "--gpu", "a10")["kv_tokens_by_tensor_parallel_size"]
    assert isinstance(read, dict)
    assert list(read) == ["1", "2", "4", "8"]
    assert read["2"] > 2 * read["1"]


def test_without_a_gpu_the_memory_of_the_machine_is_planned(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert values(capsys)["device"] == "this machine's memory (CPU)"


def test_a_directory_with_a_config_alone_is_enough(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(quantized(LLAMA_31_8B)))
    assert values(capsys, tmp_path, "--gpu", "l4")["scheme"] == "w8a8-int8"


def test_a_written_profile_holds_the_settings_of_the_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    read = values(capsys, "--gpu", "t4", "--write", path)
    profile = yaml.safe_load(path.read_text())
    now = read["settings"]
    assert isinstance(now, dict)
    assert profile["engine"] == {name: now[name] for name in profile["engine"]}
    assert profile["engine"]["dtype"] == "float16"
    assert profile["model"]["scheme"] == "w8a8-int8"


def test_a_plan_that_does_not_fit_is_not_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    assert plan("--vram", "8GiB", "--write", path) == 2
    assert not path.exists()
    assert "does not fit" in capsys.readouterr().err


def test_the_picture_is_a_bar_as_long_as_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "memory.svg"
    plan("--gpu", "a10", "--plot", path)
    root = ElementTree.parse(path).getroot()
    tag = "{http://www.w3.org/2000/svg}rect"
    bars = [rect for rect in root.iter(tag) if rect.get("height") == "56"]
    assert sum(float(bar.get("width") or 0) for bar in bars) == pytest.approx(800, abs=0.5)
    assert len({bar.get("fill") for bar in bars}) == len(bars) == 7


def test_a_context_beyond_the_models_positions_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    plan("--vram", "200GiB", "--max-model-len", 131073)
    assert "config.json has 131,072 positions" in capsys.readouterr().out
    plan("--vram", "200GiB", "--max-model-len", 131072)
    assert "config.json has" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--gpu", "voodoo2"), "--gpu voodoo2 is not known"),
        (("--vram", "lots"), "--vram lots is no size"),
        (("--vram", "0GiB"), "--vram 0GiB is no memory"),
        (("--gpu", "a10", "--json", "--write", "/absent/a.yaml"), "a.yaml cannot be written: No"),
        (("--gpu", "a10", "--json", "--plot", "/absent/a.svg"), "a.svg cannot be written: No"),
        (("no-such-directory",), "neither a directory nor a repository"),
        (("--gpu", "a10", "--tensor-parallel-size", "3"), "cannot be split"),
    ],
)
def test_what_cannot_be_planned_is_one_sentence(
    arguments: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan(*arguments) in (2, 3)
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
