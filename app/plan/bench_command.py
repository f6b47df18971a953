"""`python -m app bench-memory`: start engines on made-up models and hold the plan against them."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.core.errors import AppError, SettingsError
from app.core.memory.comparison import Compared
from app.core.memory.knobs import Device
from app.core.report_line import find_report
from app.plan.bench_models import COMBINATIONS, Combination
from app.plan.gpu_detection import detect_gpus
from app.plan.machine import cpu_device
from app.plan.measurements import GPU_SHARE, MEASURED, Measurement, compare, keep
from app.plan.memory_page import PAGE, refresh

PROBE = "app.engine.memory_probe"
PROBE_TIMEOUT_S = 900
CPU = "CPU build, vLLM 0.32.0"
MISSED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    names = ", ".join(each.name for each in COMBINATIONS)
    parser.add_argument("only", nargs="*", metavar="NAME", help=f"of {names} (default: all)")
    parser.add_argument(
        "--results", type=Path, default=MEASURED, help="where rows are kept (default: docs)"
    )


def run(args: argparse.Namespace) -> int:
    """Exits with 1 where an error is above the goal."""
    device = find_device()
    missed = 0
    for combination in choose(args.only, device):
        print(f"{combination.name}: starting an engine", flush=True)
        measured = measure(combination, device)
        keep(measured, args.results)
        for compared in compare(measured):
            print("  " + line(compared), flush=True)
            missed += not compared.is_within_goal
    if args.results == MEASURED:
        PAGE.write_text(refresh(PAGE.read_text()))
    return MISSED if missed else 0


def line(compared: Compared) -> str:
    verdict = "" if compared.is_within_goal else f"  above the goal of {compared.goal:.0%}"
    return (
        f"{compared.name:<10} planned {compared.planned:>14,}  actual {compared.actual:>14,}  "
        f"{compared.error:+.2%}{verdict}"
    )


def find_device() -> Device:
    gpus = detect_gpus().gpus
    if gpus:
        return Device.of(gpus[0])
    memory = cpu_device()
    return Device(CPU, memory.total_bytes, memory.free_bytes, None)


def choose(names: Sequence[str], device: Device) -> list[Combination]:
    """Those that were named, or all; models of full size on a GPU only, and there first."""
    unknown = set(names) - {each.name for each in COMBINATIONS}
    if unknown:
        raise SettingsError(f"There is no combination {min(unknown)[:40]!r}.")
    wanted = [each for each in COMBINATIONS if not names or each.name in names]
    usable = [each for each in wanted if not (device.is_cpu and each.is_large)]
    return sorted(usable, key=lambda each: not each.is_large)


def measure(combination: Combination, device: Device) -> Measurement:
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "config.json").write_text(json.dumps(combination.config_json))
        said = probe(directory, engine_settings(combination, device))
    return Measurement(
        combination=combination.name,
        device=name_of(device, said["versions"]),
        total_bytes=device.total_bytes,
        capability=device.capability,
        parameter_bytes=said["parameter_bytes"],
        num_blocks=said["num_blocks"],
        kv_tokens=said["kv_tokens"],
        gpu_memory=said["gpu_memory"],
    )


def name_of(device: Device, versions: dict[str, Any]) -> str:
    """A GPU's figures are those of a vLLM and a torch."""
    if device.is_cpu:
        return device.name
    return f"{device.name}, vLLM {versions['vllm']}, torch {versions['torch']}"


def engine_settings(combination: Combination, device: Device) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "max_model_len": combination.max_model_len,
        "max_num_seqs": combination.max_num_seqs,
        "max_num_batched_tokens": combination.max_num_batched_tokens,
        "kv_cache_dtype": combination.kv_cache_dtype,
    }
    if device.is_cpu:
        return {**settings, "kv_cache_memory_bytes": combination.kv_bytes, "enforce_eager": True}
    return {**settings, "gpu_memory_utilization": GPU_SHARE}


def probe(directory: str, settings: dict[str, Any]) -> dict[str, Any]:
    """One engine in a process of its own. Raises AppError with its last lines where it fails."""
    environment = {
        **os.environ,
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_NO_USAGE_STATS": "1",
    }
    environment.pop("VLLM_CPU_KVCACHE_SPACE", None)  # it would win over what is asked for here
    try:
        ended = subprocess.run(
            [sys.executable, "-m", PROBE, directory, json.dumps(settings)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise AppError(f"The engine did not start within {PROBE_TIMEOUT_S} s.") from error
    said = find_report(ended.stdout)
    if said is None:
        sys.stderr.write("\n".join(ended.stderr.splitlines()[-30:]) + "\n")
        raise AppError(f"The engine ended with {ended.returncode}; its last words are above.")
    return said
