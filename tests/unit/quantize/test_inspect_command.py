import json
from pathlib import Path
from typing import Any

import pytest

from app.__main__ import main
from app.quantize.inspection.text import ranges
from tests.unit.core.checkpoint_files import (
    W8A8,
    header_of,
    layer_tensors,
    model_tensors,
    write_checkpoint,
    write_shard,
    write_sharded,
)


def inspect(path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    status = main(["inspect", str(path), *options])
    return status, capsys.readouterr().out


def test_a_sound_checkpoint_is_described(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, text = inspect(write_checkpoint(tmp_path), capsys)
    assert status == 0
    assert "activations int8 per token, symmetric, dynamic" in text
    assert "left unquantized: lm_head" in text
    row = next(line for line in text.splitlines() if "q_proj" in line)
    assert row.split("  ")[0] == "model.layers.*.self_attn.q_proj"
    assert "int8" in row
    assert "(64, 1)" in row
    assert row.endswith("0-1")
    assert "no INT8 path: use FP8" in text
    assert "No problems found." in text


def test_the_machine_readable_report_names_every_layer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, text = inspect(write_checkpoint(tmp_path), capsys, "--json")
    report: dict[str, Any] = json.loads(text)
    assert status == 0
    assert report["sound"] is True
    assert len(report["layers"]) == 2 * 7 + 2
    assert report["ignored_layers"] == ["lm_head"]
    assert (
        sum(size for kind, size in report["bytes"].items() if kind != "total")
        == (report["bytes"]["total"])
    )
    values = sum(
        num_values(shape)
        for name, (_, shape) in model_tensors().items()
        if not name.endswith("scale")
    )
    expected = values * 2 / report["bytes"]["total"]
    assert report["compression_against_16_bit"] == pytest.approx(expected, abs=0.001)


def num_values(shape: tuple[int, ...]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product


def test_missing_and_truncated_shards_are_told_in_one_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sharded(tmp_path)
    first, second = sorted(tmp_path.glob("model-*.safetensors"))
    first.write_bytes(first.read_bytes()[:-7])
    second.unlink()
    status, text = inspect(tmp_path, capsys)
    assert status == 3
    assert f"{first.name} is truncated" in text
    assert f"{second.name} is missing" in text


def test_a_layer_that_differs_has_a_row_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = {"model.layers.1.mlp.up_proj.weight_scale": ("F32", (128, 1))}
    _, text = inspect(write_checkpoint(tmp_path, {**model_tensors(), **changed}), capsys)
    rows = [line for line in text.splitlines() if "up_proj" in line]
    assert [row.split()[-1] for row in rows] == ["0", "1"]


def test_numbers_are_written_as_ranges() -> None:
    assert ranges([3, 0, 1, 2, 7, 9, 10]) == "0-3, 7, 9-10"


def test_a_checkpoint_of_seventy_billion_parameters_takes_no_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only headers are read: shards of terabytes that are holes on the disk do not matter."""
    write_checkpoint(tmp_path, num_hidden_layers=80)
    layers = [layer_tensors(number, quantized=True) for number in range(80)]
    outer = {name: kind for name, kind in model_tensors().items() if ".layers." not in name}
    tensors = outer
    for layer in layers:
        tensors |= layer
    huge = {
        name: (dtype, tuple(size * 128 if size > 1 else 1 for size in shape))
        for name, (dtype, shape) in tensors.items()
    }
    (tmp_path / "model.safetensors").unlink()
    write_sparse_shard(tmp_path / "model.safetensors", huge)
    status, text = inspect(tmp_path, capsys)
    assert status == 0
    assert "0-79" in text


def write_sparse_shard(path: Path, tensors: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    header, num_bytes = header_of(tensors)
    raw = json.dumps(header).encode()
    assert num_bytes > 2**34
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + num_bytes)


def test_what_is_no_checkpoint_is_refused_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(tmp_path)]) == 3
    assert "has no config.json" in capsys.readouterr().err
    (tmp_path / "config.json").write_text("[" * 100_000)
    assert main(["inspect", str(tmp_path)]) == 3
    assert "nested too deeply" in capsys.readouterr().err


def test_an_unquantized_shard_under_a_w8a8_config_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_checkpoint(tmp_path)
    write_shard(tmp_path / "model.safetensors", model_tensors(quantized=False))
    status, text = inspect(tmp_path, capsys)
    assert status == 3
    assert "Not quantized, and not on the ignore list" in text
    assert "and 11 more" in text


def test_a_strangers_control_characters_do_not_reach_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ignore = ["lm_head", "\x1b]0;title\x07"]
    changes: dict[str, Any] = {
        "architectures": ["\x1b[31mLlama"],
        "quantization_config": {**W8A8, "ignore": ignore},
    }
    status, text = inspect(write_checkpoint(tmp_path, **changes), capsys)
    assert status == 0
    assert text.replace("\n", "").isprintable()
    assert "[31mLlama" in text
