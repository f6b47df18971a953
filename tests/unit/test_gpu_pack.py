"""The GPU pack: which files it takes, and a library of made-up code reduced to one architecture."""

import struct
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "gpu"
PTX, MACHINE_CODE = 1, 2


@pytest.fixture
def fatbin(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load("fatbin", monkeypatch)


@pytest.fixture
def pack(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load("pack", monkeypatch)


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Scripts of that folder find each other as Python does when one of them is run."""
    monkeypatch.syspath_prepend(str(FOLDER))
    module = __import__(name)
    for loaded in ("fatbin", "pack"):
        monkeypatch.delitem(sys.modules, loaded, raising=False)
    return module


def image(kind: int, architecture: int, code: bytes) -> bytes:
    header = struct.pack("<HHIQ", kind, 1, 64, len(code)).ljust(28, b"\0")
    return (header + struct.pack("<I", architecture)).ljust(64, b"\0") + code


def container(*images: bytes) -> bytes:
    content = b"".join(images)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(content)) + content


def library(*containers: bytes) -> bytearray:
    """An ELF file with the sections that matter; 8 bytes of padding between containers."""
    code = (b"\0" * 8).join(containers)
    names = b"\0.nv_fatbin\0.shstrtab\0"
    start = 64
    table = start + len(code) + len(names)
    sections = [(0, 0, 0), (1, start, len(code)), (12, start + len(code), len(names))]
    elf = bytearray(b"\x7fELF".ljust(64, b"\0"))
    struct.pack_into("<Q", elf, 0x28, table)
    struct.pack_into("<HH", elf, 0x3C, len(sections), 2)
    elf += code + names
    for name, offset, size in sections:
        elf += struct.pack("<IIQQQQIIQQ", name, 0, 0, 0, offset, size, 0, 0, 0, 0)
    return elf


def test_only_the_wanted_architecture_stays_and_no_container_moves(fatbin: ModuleType) -> None:
    wanted, other = (
        image(MACHINE_CODE, 90, b"hopper--"),
        image(MACHINE_CODE, 80, b"ampere-code-----"),
    )
    first = container(image(PTX, 90, b"portable"), other, wanted)
    second = container(image(MACHINE_CODE, 75, b"t" * 24), other)
    before = library(first, second)
    after = bytearray(before)
    assert fatbin.keep_architecture(after, 90) == (1, 1)
    assert len(after) == len(before)
    found = [fatbin.entries_of(after, each) for each in fatbin.containers(after)]
    kept = [[(entry.kind, entry.architecture) for entry in entries] for entries in found]
    # The second has no code for it: its smallest image stays, so that it can be registered.
    assert kept == [[(MACHINE_CODE, 90)], [(MACHINE_CODE, 80)]]
    assert wanted in after
    assert b"portable" not in after
    starts = [after.find(struct.pack("<I", 0xBA55ED50), at) for at in (64, 64 + len(first))]
    assert starts == [64, 64 + len(first) + 8]


def test_a_library_without_gpu_code_is_left_as_it_is(fatbin: ModuleType) -> None:
    before = library()
    after = bytearray(before)
    assert fatbin.keep_architecture(after, 90) == (0, 0)
    assert after == before


def test_every_package_of_the_pack_is_in_the_lock(pack: ModuleType) -> None:
    versions = pack.locked_versions()
    assert set(pack.wanted_packages()) <= set(versions)
    assert versions["vllm"] == "vllm==0.32.0"


def test_the_pack_takes_what_a_dense_model_needs(pack: ModuleType) -> None:
    kept = [
        "vllm/engine/arg_utils.py",
        "vllm/_C_stable_libtorch.abi3.so",
        "vllm/model_executor/configs/E=8,device_name=NVIDIA_H200.json",
        "vllm-0.32.0.dist-info/METADATA",
    ]
    left_out = [
        "vllm/vllm-rs",
        "vllm/_flashmla_C.abi3.so",
        "vllm/model_executor/configs/E=8,device_name=NVIDIA_A100.json",
        "vllm/third_party/deep_gemm/__init__.py",
        "vllm-0.32.0.dist-info/RECORD",
    ]
    assert list(pack.names_to_keep(kept + left_out, "H200")) == kept
