"""The weights are in the page cache before anybody reads them."""

import ctypes
import mmap
import os
import time
from pathlib import Path

import pytest

from app.core.memory.knobs import Device
from app.plan import read_ahead as module
from app.plan.read_ahead import read_ahead

SIZE = 16 << 20


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A shard on the disk alone."""
    shard = tmp_path / "model.safetensors"
    shard.write_bytes(os.urandom(SIZE))
    with shard.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return shard


def cached_share(file: Path) -> float:
    """Of its pages, how many the system has in memory: mincore(2)."""
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as pages:
        is_there = (ctypes.c_ubyte * (SIZE // mmap.PAGESIZE))()
        start = ctypes.c_char.from_buffer(pages)
        address = ctypes.c_void_p(ctypes.addressof(start))
        assert ctypes.CDLL(None).mincore(address, ctypes.c_size_t(SIZE), is_there) == 0
        del start
        return sum(each & 1 for each in is_there) / len(is_there)


def test_the_weights_are_read_before_anybody_asks_for_them(weights: Path) -> None:
    thread = read_ahead(str(weights.parent), None)
    assert thread is not None
    thread.join()
    deadline = time.monotonic() + 30
    while cached_share(weights) < 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert cached_share(weights) == 1


def test_what_does_not_fit_into_memory_is_left_alone(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "cpu_device", lambda: Device("small", SIZE, SIZE, None))
    assert read_ahead(str(weights.parent), None) is None


@pytest.mark.parametrize("model", ["nobody/nothing", "empty", "broken"])
def test_what_cannot_be_read_ahead_is_left_to_vllm(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    (tmp_path / "empty").mkdir()
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "model.safetensors.index.json").write_text("{")
    local = tmp_path / model
    assert read_ahead(str(local) if local.is_dir() else model, None) is None
