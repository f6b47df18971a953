"""What a measurement says it ran on, and the ceilings. CUDA is a stand-in here: it shows that the
code asks for what exists in this torch, not that a GPU answers."""

import sys
from types import SimpleNamespace

import pytest
import torch

from app.engine import ceilings
from app.engine.ceilings import Sizes, measure_copy, measure_products, median_s
from app.engine.device import describe_device

pytestmark = pytest.mark.filterwarnings("ignore")
SMALL = Sizes(copy_bytes=2**16, side=64, warm_up=1, repeat=3)


def test_a_cpu_has_no_driver() -> None:
    about = describe_device()
    assert about["device"].startswith("CPU")
    assert about["driver"] is None
    assert about["torch"] == torch.__version__


def test_a_gpu_is_named_with_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlSystemGetDriverVersion=lambda: "580.159.04",
    )
    monkeypatch.setitem(sys.modules, "vllm.third_party.pynvml", nvml)
    monkeypatch.setattr("vllm.third_party.pynvml", nvml, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    about = describe_device()
    assert (about["device"], about["driver"]) == ("NVIDIA H200", "580.159.04")


def test_copy_and_products_are_measured_for_each_type() -> None:
    assert measure_copy(SMALL, "cpu", lambda: None) > 0
    rates = dict(measure_products(SMALL, "cpu", lambda: None))
    assert {"bf16", "int8"} <= set(rates)
    assert all(rate > 0 for rate in rates.values())


def test_a_type_without_a_product_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("needs compute capability 8.9\nand more")

    monkeypatch.setattr(torch, "_scaled_mm", refuse)
    assert "fp8" not in dict(measure_products(SMALL, "cpu", lambda: None))
    assert capsys.readouterr().err == "no fp8 product here: needs compute capability 8.9\n"


def test_each_run_is_waited_for_and_warm_up_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, calls = iter(range(100)), []
    monkeypatch.setattr(ceilings, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    took = median_s(lambda: calls.append("work"), SMALL, lambda: calls.append("wait"))
    assert took == 1
    assert calls == ["wait", "work", "wait"] * 4
