from pathlib import Path

import pytest

from app.core.checkpoint import Checkpoint, read_checkpoint
from app.core.errors import AppError
from app.quantize import needs
from app.quantize.needs import GIB, check_machine, estimate
from tests.unit.core.checkpoint_files import (
    LINEARS,
    model_tensors,
    write_checkpoint,
)
from tests.unit.quantize.jobs import make_job


def read_source(tmp_path: Path) -> Checkpoint:
    tensors = model_tensors(quantized=False)
    directory = write_checkpoint(tmp_path / "bf16", tensors, quantization_config=None)
    return read_checkpoint(directory)


def test_the_output_is_as_large_as_a_checkpoint_of_that_scheme(tmp_path: Path) -> None:
    quantized = read_checkpoint(write_checkpoint(tmp_path / "w8a8"))
    estimated = estimate(read_source(tmp_path), make_job(tmp_path / "out"))
    assert estimated.output_bytes == quantized.num_bytes


def test_gptq_counts_a_hessian_for_every_weight_of_a_layer(tmp_path: Path) -> None:
    source = read_source(tmp_path)
    gptq = estimate(source, make_job(tmp_path / "out", "gptq-int8"))
    rounding = estimate(source, make_job(tmp_path / "out", "dynamic-int8"))
    hessians = sum(4 * inputs**2 for _, inputs in LINEARS.values()) + 3 * 4 * 128**2
    assert gptq.working_bytes - rounding.working_bytes == hessians
    assert gptq.calibration_bytes == 2 * (8 * 64) * 64 * 2
    assert rounding.calibration_bytes == 0


def test_only_a_repository_is_downloaded(tmp_path: Path) -> None:
    source = read_source(tmp_path)
    remote = estimate(source, make_job(tmp_path / "out", model="owner/name"))
    assert remote.download_bytes == source.num_bytes
    assert estimate(source, make_job(tmp_path / "out")).download_bytes == 0


def test_too_little_memory_is_said_with_the_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(needs, "available_memory_bytes", lambda: GIB // 2)
    job = make_job(tmp_path / "out")
    with pytest.raises(AppError, match=r"up to 1\.0 GiB are needed and 0\.5 GiB .*--offload"):
        check_machine(estimate(read_source(tmp_path), job), job)


def test_too_little_disk_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(needs, "free_disk_bytes", lambda path: 1000)
    job = make_job(tmp_path / "deep" / "out")
    with pytest.raises(AppError, match="Too little disk"):
        check_machine(estimate(read_source(tmp_path), job), job)
    assert not (tmp_path / "deep").exists()


def test_the_machine_says_what_it_has(tmp_path: Path) -> None:
    available = needs.available_memory_bytes()
    assert available is None or available > 0
    assert needs.free_disk_bytes(tmp_path) > 0
