"""What is read of a worker's memory. The worker is a stand-in with the names that vLLM 0.32.0's GPU
worker has (the contract is held below); torch's answer about the card is scripted."""

import inspect
from types import SimpleNamespace

import pytest

# vLLM and torch raise deprecation warnings of their own when they are imported.
pytestmark = pytest.mark.filterwarnings("ignore")
GIB = 2**30


def test_a_gpu_worker_tells_its_account_and_what_is_gone_of_the_card(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    from app.engine.loaded_memory import read_gpu_memory

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (4 * GIB, 24 * GIB))
    worker = SimpleNamespace(
        total_consumed=9 * GIB,
        peak_activation_memory=GIB,
        cudagraph_memory_estimate=GIB // 4,
        available_kv_cache_memory_bytes=8.5 * GIB,
        init_snapshot=SimpleNamespace(free_memory=23 * GIB),
        device="cuda:0",
    )
    assert read_gpu_memory(worker) == {
        "consumed": 9 * GIB,
        "peak": GIB,
        "graphs": GIB // 4,
        "kv_available": 8.5 * GIB,
        "total": 24 * GIB,
        "held": 19 * GIB,
    }


def test_a_worker_without_an_account_tells_nothing() -> None:
    from app.engine.loaded_memory import read_gpu_memory

    assert read_gpu_memory(SimpleNamespace(device="cpu")) == {}


def test_vllms_gpu_worker_has_the_names_that_are_read() -> None:
    from vllm.v1.worker import gpu_worker

    source = inspect.getsource(gpu_worker.Worker)
    for name in (
        "total_consumed",
        "peak_activation_memory",
        "cudagraph_memory_estimate",
        "available_kv_cache_memory_bytes",
        "init_snapshot",
        "device",
    ):
        assert f"self.{name} = " in source, name
