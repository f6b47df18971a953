"""What is read from the driver's library. The library here is one in Python."""

import ctypes
import os

import pytest

from app.core.gpus import GIB, Gpu
from app.plan.gpu_detection import LIBRARY, Machine, detect_gpus
from tests.unit.plan.fake_nvml import FakeGpu, FakeNvml

A10 = FakeGpu("NVIDIA A10", 24 * GIB, 1 * GIB, 20 * GIB, (8, 6))
H100 = FakeGpu("NVIDIA H100 80GB HBM3", 80 * GIB, 1 * GIB, 79 * GIB, (9, 0))


@pytest.fixture(autouse=True)
def every_device_is_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def install(monkeypatch: pytest.MonkeyPatch, nvml: FakeNvml) -> None:
    def load(name: str) -> FakeNvml:
        assert name == LIBRARY
        return nvml

    monkeypatch.setattr(ctypes, "CDLL", load)


def names(machine: Machine) -> list[str]:
    return [gpu.name for gpu in machine.gpus]


def test_memory_is_what_the_driver_leaves_to_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml((A10, H100))
    install(monkeypatch, nvml)
    machine = detect_gpus()
    assert machine.driver == "580.95.05"
    assert machine.gpus[0] == Gpu("NVIDIA A10", 23 * GIB, 20 * GIB, (8, 6))
    assert names(machine) == [A10.name, H100.name]
    assert nvml.calls[-1] == "nvmlShutdown"


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("1", [H100.name]),
        ("1,0", [H100.name, A10.name]),
        ("GPU-1", [H100.name]),
        ("0,7,1", [A10.name]),
        ("-1", []),
        ("", []),
    ],
)
def test_only_visible_devices_count(
    monkeypatch: pytest.MonkeyPatch, visible: str, expected: list[str]
) -> None:
    install(monkeypatch, FakeNvml((A10, H100)))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert names(detect_gpus()) == expected


def test_without_the_library_there_are_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> FakeNvml:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert detect_gpus() == Machine(None, ())


def test_a_driver_that_does_not_answer_means_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml((A10,), failing="nvmlDeviceGetMemoryInfo_v2")
    install(monkeypatch, nvml)
    assert detect_gpus() == Machine(None, ())
    assert nvml.calls[-1] == "nvmlShutdown"


def test_a_gpu_that_shares_the_machines_memory_has_that(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml((A10,), failing="nvmlDeviceGetMemoryInfo_v2", failure=3)
    install(monkeypatch, nvml)
    (gpu,) = detect_gpus().gpus
    assert gpu.total_bytes == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < gpu.free_bytes < gpu.total_bytes
