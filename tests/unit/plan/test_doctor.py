"""What the doctor says of a machine."""

import ctypes
import json
import socket

import pytest

from app.__main__ import main
from app.core.gpus import GIB, Gpu, choose_profile
from app.core.memory.knobs import Device
from app.plan import doctor, doctor_command
from app.plan.doctor import Finding, Status
from app.plan.gpu_detection import Machine
from tests.unit.plan.fake_nvml import FakeGpu, FakeNvml

L4 = Gpu("NVIDIA L4", 22 * GIB, 22 * GIB, (8, 9))
WITH_L4 = Machine("580.95.05", (L4,))
NO_GPU = Machine(None, ())


@pytest.mark.parametrize(
    ("build", "machine", "status"),
    [
        ("cpu", NO_GPU, Status.OK),
        ("cuda", WITH_L4, Status.OK),
        ("cpu", WITH_L4, Status.WARNING),
        ("cuda", NO_GPU, Status.FIX),
        (None, NO_GPU, Status.FIX),
    ],
)
def test_the_build_has_to_be_the_machines(
    build: str | None, machine: Machine, status: Status
) -> None:
    assert doctor.judge_build(build, machine).status is status


@pytest.mark.parametrize(
    ("driver", "status"), [(None, Status.OK), ("580.65.06", Status.OK), ("550.54", Status.FIX)]
)
def test_an_old_driver_is_to_be_mended(driver: str | None, status: Status) -> None:
    assert doctor.judge_driver(Machine(driver, ())).status is status


def test_a_gpu_says_what_it_computes_and_what_is_free() -> None:
    finding = doctor.judge_gpu(0, L4)
    assert finding.status is Status.OK
    assert "8.9 (Ada), int8 yes, fp8 yes, bfloat16 yes, 22.0 of 22.0 GiB free" in finding.sentence


def test_a_gpu_in_use_is_a_warning_and_one_without_8_bit_a_fix() -> None:
    busy = Gpu("NVIDIA L4", 22 * GIB, 10 * GIB, (8, 9))
    assert doctor.judge_gpu(0, busy).status is Status.WARNING
    volta = Gpu("Tesla V100", 16 * GIB, 16 * GIB, (7, 0))
    assert doctor.judge_gpu(0, volta).status is Status.FIX


def test_what_runs_best_names_the_fp8_twin_where_there_is_one() -> None:
    name = "llama-3.1-8b-instruct-w8a8-l4"
    twin = name.replace("w8a8", "fp8")
    assert twin in doctor.judge_choice(choose_profile((L4,), {name}), {name, twin}).sentence
    assert "FP8" not in doctor.judge_choice(choose_profile((L4,), {name}), {name}).sentence
    assert "no NVIDIA GPU" in doctor.judge_choice(choose_profile((), set()), set()).sentence


@pytest.mark.parametrize(
    ("free_gib", "is_needed", "status"),
    [(50, True, Status.OK), (3, True, Status.FIX), (3, False, Status.OK)],
)
def test_disk_counts_where_a_model_is_still_to_come(
    free_gib: int, is_needed: bool, status: Status
) -> None:
    assert doctor.judge_disk("/models", free_gib * GIB, is_needed).status is status


@pytest.mark.parametrize(
    ("is_reachable", "is_needed", "status"),
    [(True, True, Status.OK), (False, True, Status.FIX), (False, False, Status.WARNING)],
)
def test_an_unreachable_hub_matters_where_it_is_needed(
    is_reachable: bool, is_needed: bool, status: Status
) -> None:
    assert doctor.judge_hub("https://hub", is_reachable, is_needed).status is status


def test_little_memory_is_a_warning() -> None:
    assert doctor.judge_memory(Device("", 8 * GIB, 6 * GIB, None)).status is Status.OK
    assert doctor.judge_memory(Device("", 8 * GIB, 1 * GIB, None)).status is Status.WARNING


def test_a_port_in_use_is_a_warning_with_the_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        finding = doctor.judge_port("127.0.0.1", port)
    assert finding.status is Status.WARNING
    assert "server.port (PORT)" in finding.sentence
    assert doctor.judge_port("127.0.0.1", 0).status is Status.OK


def test_the_command_prints_a_line_for_each_and_ends_with_1_where_one_is_to_be_mended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu = FakeGpu("NVIDIA A10", 23 * GIB, GIB, 22 * GIB, (8, 6))
    monkeypatch.setattr(ctypes, "CDLL", lambda _: FakeNvml((gpu,), "550.1"))
    monkeypatch.setattr(doctor_command, "is_hub_reachable", lambda: False)
    assert main(["doctor", "--port", "0"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert all(line.split()[0] in ("ok", "warning", "fix") for line in lines)
    assert any("GPU 0" in line and "NVIDIA A10" in line for line in lines)
    assert any(line.startswith("fix") and "driver" in line for line in lines)


def test_for_programs_it_is_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    healthy = [Finding(Status.OK, "all", "well.")]
    monkeypatch.setattr(doctor_command, "examine", lambda *_: healthy)
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {"status": "ok", "subject": "all", "sentence": "well."}
    ]
