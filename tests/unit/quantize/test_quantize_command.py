from pathlib import Path

import pytest

from app.__main__ import main
from app.quantize import environment, needs
from tests.unit.core.checkpoint_files import model_tensors, write_checkpoint


@pytest.fixture
def source(tmp_path: Path) -> Path:
    tensors = model_tensors(quantized=False)
    return write_checkpoint(tmp_path / "bf16", tensors, quantization_config=None)


def quantize(source: Path, out: Path, *options: str) -> int:
    return main(["quantize", "--model", str(source), "--out", str(out), *options])


def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(source.parent.iterdir())
    out = source.parent / "w8a8"
    assert quantize(source, out, "--recipe", "gptq-int8", "--samples", "7", "--dry-run") == 0
    said = capsys.readouterr().out
    assert "gptq-int8" in said
    assert "7 samples of at most 2048 tokens" in said
    assert "GiB of memory" in said
    assert set(source.parent.iterdir()) == before


def test_a_quantized_model_is_not_quantized_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_checkpoint(tmp_path / "w8a8")
    assert quantize(source, tmp_path / "out", "--recipe", "dynamic-int8") == 3
    assert "is quantized already: w8a8-int8" in capsys.readouterr().err


def test_an_unknown_recipe_or_device_is_refused(source: Path) -> None:
    for options in (["--recipe", "magic"], ["--recipe", "gptq-int8", "--device", "tpu"]):
        with pytest.raises(SystemExit):
            quantize(source, source.parent / "out", *options)


def test_the_command_goes_on_in_llm_compressors_environment(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def go_on(arguments: list[str]) -> None:
        seen.extend(arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(environment, "has_llm_compressor", lambda: False)
    monkeypatch.setattr(environment, "run_again_there", go_on)
    monkeypatch.setattr("sys.argv", ["app", "quantize", "--as", "typed"])
    assert quantize(source, source.parent / "out", "--recipe", "dynamic-int8") == 130
    assert seen == ["quantize", "--as", "typed"]


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_that_is_not_there_is_said_before_anything_is_installed(
    source: Path, device: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(needs, "GPU_DRIVERS", (source / "no-driver",))
    monkeypatch.setattr(environment, "has_llm_compressor", lambda: pytest.fail("too late"))
    options = ["--recipe", "dynamic-int8", "--device", device]
    assert quantize(source, source.parent / "out", *options) == 2
    assert f"--device {device} was asked for, and this machine has no NVIDIA driver" in (
        capsys.readouterr().err
    )
    monkeypatch.setattr(needs, "GPU_DRIVERS", (source,))
    assert quantize(source, source.parent / "out", *options, "--dry-run") == 0
