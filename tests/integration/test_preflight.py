"""What the real command refuses before it reads a weight: the sentence, and the exit code.

The driver is one in Python (fake_machine/), the checkpoint a header and a hole of the right size:
nothing gets as far as the engine.
"""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.integration.gateway_process import ROOT, command, environment, free_port, write_keys
from tests.unit.core.memory.models import LLAMA_31_8B, quantized, shape

GIB = 2**30
FAKE_MACHINE = Path(__file__).parent / "fake_machine"
TIMEOUT_S = 120


def gpu(name: str, gib: float, capability: tuple[int, int], used_gib: float = 0) -> dict[str, Any]:
    total = int(gib * GIB)
    return {
        "name": name,
        "total": total,
        "free": total - int(used_gib * GIB),
        "capability": capability,
    }


A10 = gpu("NVIDIA A10", 22, (8, 6))
B200 = gpu("NVIDIA B200", 178, (10, 0))
V100 = gpu("Tesla V100-SXM2-16GB", 15.8, (7, 0))
T4 = gpu("Tesla T4", 14.6, (7, 5))
INT8 = quantized(LLAMA_31_8B)
FP8 = quantized(LLAMA_31_8B, "float")


def write_checkpoint(folder: Path, config: Mapping[str, Any]) -> Path:
    """Headers of all its tensors, and a sparse file instead of gigabytes of weights."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    header, position = {}, 0
    for tensor in shape(dict(config)).tensors:
        end = position + tensor.num_bytes
        header[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": tensor.shape,
            "data_offsets": [position, end],
        }
        position = end
    raw = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + position)
    return folder


def serve(
    folder: Path,
    config: Mapping[str, Any],
    *settings: str,
    gpus: list[dict[str, Any]] | None = None,
    driver: str | None = "580.95.05",
) -> tuple[int, str]:
    """`python -m app serve` on the fake machine; None for `gpus` leaves the CPU build."""
    model = write_checkpoint(folder / "model", config)
    assignments = (
        f"model.path={model}",
        f"server.port={free_port()}",
        f"auth.keys_file={write_keys(folder / 'keys.yaml')}",
        *settings,
    )
    words = [word for assignment in assignments for word in ("--set", assignment)]
    variables = {}
    if gpus is not None:
        variables["FAKE_GPUS"] = json.dumps({"driver": driver, "gpus": gpus})
        variables["PYTHONPATH"] = f"{FAKE_MACHINE}:{ROOT}"
    ended = subprocess.run(
        command("serve", "--profile", "none", *words),
        env=environment(**variables),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert "importing vLLM" not in ended.stdout + ended.stderr
    sentences = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert len(sentences) == 1, ended.stderr
    return ended.returncode, sentences[0]


def test_no_driver_for_the_cuda_build(tmp_path: Path) -> None:
    code, sentence = serve(tmp_path, INT8, gpus=[], driver=None)
    assert code == 10
    assert "no NVIDIA driver answers: install driver 580" in sentence


def test_a_driver_too_old_for_cuda_13(tmp_path: Path) -> None:
    code, sentence = serve(tmp_path, INT8, gpus=[A10], driver="550.54.15")
    assert code == 10
    assert "driver is 550.54.15 and CUDA 13 needs 580 or newer" in sentence


def test_fewer_gpus_than_asked_for(tmp_path: Path) -> None:
    code, sentence = serve(tmp_path, INT8, "engine.tensor_parallel_size=2", gpus=[A10])
    assert code == 10
    assert "tensor_parallel_size is 2 and 1 GPUs are visible" in sentence


@pytest.mark.parametrize(
    ("card", "config", "scheme", "words"),
    [
        (B200, INT8, "w8a8-int8", "cannot run a w8a8-int8 checkpoint (no INT8 path: use FP8)"),
        (V100, INT8, "w8a8-int8", "compute capability 7.0"),
        (V100, FP8, "fp8", "cannot run a fp8 checkpoint"),
    ],
)
def test_a_gpu_of_another_generation_than_the_checkpoint_needs(
    tmp_path: Path, card: dict[str, Any], config: dict[str, Any], scheme: str, words: str
) -> None:
    code, sentence = serve(tmp_path, config, f"model.scheme={scheme}", gpus=[card])
    assert code == 11
    assert words in sentence


def test_bfloat16_on_turing(tmp_path: Path) -> None:
    code, sentence = serve(tmp_path, INT8, "engine.dtype=bfloat16", gpus=[T4])
    assert code == 11
    assert "has no bfloat16: set engine.dtype to float16" in sentence


def test_a_checkpoint_of_another_scheme(tmp_path: Path) -> None:
    code, sentence = serve(tmp_path, FP8, gpus=[A10])
    assert code == 12
    assert "model.scheme is w8a8-int8, but the checkpoint" in sentence
    assert "is fp8" in sentence


def test_a_model_too_large_for_the_gpu_comes_with_a_way_to_fit(tmp_path: Path) -> None:
    code, sentence = serve(tmp_path, INT8, "engine.max_model_len=131072", gpus=[A10])
    assert code == 13
    assert "does not fit on NVIDIA A10: weights of 8.46 GiB" in sentence
    assert "To mend it: engine." in sentence


def test_a_gpu_whose_memory_others_use(tmp_path: Path) -> None:
    busy = gpu("NVIDIA A10", 22, (8, 6), used_gib=6)
    code, sentence = serve(tmp_path, INT8, "engine.max_model_len=4096", gpus=[busy])
    assert code == 14
    assert "16.00 GiB of 22.00 GiB are free" in sentence
    assert "set engine.gpu_memory_utilization to 0.7 or lower" in sentence


def test_a_context_longer_than_the_cpus_kv_cache(tmp_path: Path) -> None:
    code, sentence = serve(tmp_path, INT8, "engine.max_model_len=131072")
    assert code == 13
    assert "one sequence of 131,072 tokens" in sentence


def test_more_kv_cache_than_the_machine_has_memory(tmp_path: Path) -> None:
    settings = ("engine.max_model_len=4096", "engine.cpu_kv_cache_gib=100000")
    code, sentence = serve(tmp_path, INT8, *settings)
    assert code == 14
    assert "lower engine.cpu_kv_cache_gib" in sentence
