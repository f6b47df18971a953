import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.core.errors import AppError
from app.quantize import environment
from app.quantize.command import check_result
from app.quantize.compression import choose_device, copy_companions
from tests.unit.core.checkpoint_files import model_tensors, write_checkpoint
from tests.unit.quantize.jobs import make_job


def test_the_tokenizer_travels_byte_for_byte_and_weights_and_reports_do_not(
    tmp_path: Path,
) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    companions = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "merges.txt"}
    others = {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        "quality.json",
        "provenance.json",
    }
    for name in companions | others:
        (source / name).write_bytes(name.encode() + b"\r\n\xff")
    copy_companions(source, out)
    assert {path.name for path in out.iterdir()} == companions
    for name in companions:
        assert (out / name).read_bytes() == (source / name).read_bytes()


@pytest.mark.parametrize(
    ("device", "visible"), [("auto", None), ("cuda", None), ("cpu", ""), ("cuda:1", "1")]
)
def test_torch_sees_only_the_device_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, device: str, visible: str | None
) -> None:
    environ: dict[str, str] = {}
    monkeypatch.setattr("os.environ", environ)
    choose_device(device)
    assert environ.get("CUDA_VISIBLE_DEVICES") == visible


def test_a_result_of_another_scheme_is_not_kept(tmp_path: Path) -> None:
    whole = write_checkpoint(tmp_path / "w8a8")
    check_result(whole, make_job(tmp_path / "out"))
    plain = write_checkpoint(
        tmp_path / "bf16", model_tensors(quantized=False), quantization_config=None
    )
    with pytest.raises(AppError, match="is unquantized, not w8a8-int8"):
        check_result(plain, make_job(tmp_path / "out"))


def test_a_failed_set_up_ends_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=1))
    with pytest.raises(AppError, match="could not be made"):
        environment.run_again_there(["quantize"])


def test_the_command_goes_on_with_its_own_arguments_and_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: dict[str, Any] = {}

    def replace_process(python: str, arguments: list[str], variables: dict[str, str]) -> None:
        seen.update(python=python, arguments=arguments, path=variables["PYTHONPATH"])

    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=0))
    monkeypatch.setattr("os.execve", replace_process)
    environment.run_again_there(["quantize", "--model", "a b"])
    assert seen["python"] == str(environment.ENVIRONMENT / "bin" / "python")
    assert seen["arguments"][1:] == ["-m", "app", "quantize", "--model", "a b"]
    assert seen["path"].split(":")[0] == str(environment.ROOT)


def test_an_environment_without_llm_compressor_does_not_start_itself_over_and_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "prefix", str(environment.ENVIRONMENT))
    with pytest.raises(AppError, match="remove the directory"):
        environment.run_again_there(["quantize"])
