"""Which locks an environment is made of, and that the two of llm-compressor agree."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "requirements"


@pytest.fixture
def environment() -> ModuleType:
    spec = importlib.util.spec_from_file_location("environment", FOLDER / "environment.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("build", "has_gpu", "lock"),
    [
        (None, False, "quantize"),
        (None, True, "quantize-cuda"),
        ("cpu", True, "quantize"),
        ("cuda", False, "quantize-cuda"),
    ],
)
def test_quantizing_gets_cudas_torch_where_there_is_a_gpu(
    environment: ModuleType,
    build: str | None,
    has_gpu: bool,
    lock: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(environment, "has_cuda_gpu", lambda: has_gpu)
    monkeypatch.delenv("BUILD", raising=False)
    if build:
        monkeypatch.setenv("BUILD", build)
    assert environment.quantize_lock() == lock


def pins(name: str) -> dict[str, str]:
    lines = (FOLDER / f"{name}.lock").read_text().splitlines()
    words = [line.split()[0].partition("==") for line in lines if line[:1].isalnum()]
    return {package: version for package, _, version in words}


def test_both_locks_of_llm_compressor_have_the_same_versions() -> None:
    cpu, cuda = pins("quantize"), pins("quantize-cuda")
    assert cpu.pop("torch") == f"{cuda.pop('torch')}+cpu"
    assert cpu.items() <= cuda.items()
