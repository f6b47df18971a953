"""The whole way of a checkpoint: quantized, inspected, loaded, evaluated, gated; and damaged."""

import array
import json
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from app.core.checkpoint import read_checkpoint
from app.core.checkpoint_scheme import SchemeName
from app.evaluate.comparison.variants import IN_DOMAIN, write_calibrations
from app.quantize.recipes import RECIPES
from tests.integration.gateway_process import ROOT, command, environment, running_gateway

SOURCE = ROOT / "models" / "bundled" / "bf16"
SAMPLES = ("--samples", "64", "--max-seq-length", "256")
KERNELS = {
    SchemeName.W8A8_INT8: "CPUInt8ScaledMMLinearKernel",
    SchemeName.FP8: "ChannelWiseTorchFP8ScaledMMLinearKernel",
}
START_TIMEOUT_S = 300


def run(*words: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(*map(str, words)), cwd=ROOT, env=environment(), capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_calibrations(tmp_path_factory.mktemp("calibration"))[IN_DOMAIN]


def quantize_words(recipe: str, out: Path, calibration: Path) -> list[str]:
    words = ["quantize", "--model", SOURCE, "--out", out, "--recipe", recipe, "--device", "cpu"]
    return [*map(str, words), "--calibration", str(calibration), *SAMPLES]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, calibration: Path) -> "dict[str, Path]":
    """A checkpoint by every recipe."""
    folder = tmp_path_factory.mktemp("recipes")
    for recipe in RECIPES:
        finished = run(*quantize_words(recipe, folder / recipe, calibration))
        assert finished.returncode == 0, finished.stderr[-3000:]
    return {recipe: folder / recipe for recipe in RECIPES}


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_gives_a_sound_checkpoint_that_tells_where_it_comes_from(
    made: dict[str, Path], recipe: str
) -> None:
    finished = run("inspect", made[recipe], "--json")
    report: dict[str, Any] = json.loads(finished.stdout)
    assert finished.returncode == 0, report["problems"]
    assert report["scheme"]["name"] == RECIPES[recipe].yields
    assert report["scheme"]["ignore"] == ["lm_head"]
    provenance = json.loads((made[recipe] / "provenance.json").read_text())
    assert provenance["recipe"]["name"] == recipe
    assert provenance["versions"]["llmcompressor"]
    assert (made[recipe] / "tokenizer.json").read_bytes() == (
        SOURCE / "tokenizer.json"
    ).read_bytes()


@pytest.mark.parametrize("recipe", RECIPES)
def test_vllm_runs_every_recipes_checkpoint_on_the_kernel_that_inspect_foretells(
    made: dict[str, Path], recipe: str, tmp_path: Path
) -> None:
    scheme = RECIPES[recipe].yields
    foretold = json.loads(run("inspect", made[recipe], "--json").stdout)["kernels"][0]
    assert (foretold["platform"], foretold["kernel"]) == ("CPU", KERNELS[scheme])
    settings = (f"model.path={made[recipe]}", f"model.scheme={scheme}")
    with running_gateway(tmp_path, *settings) as gateway:
        gateway.wait_ready()
        with gateway.client() as client:
            loaded = client.get("/admin/status").json()["quantization"]
    assert loaded["kernel"] == KERNELS[scheme]


def evaluate(candidate: Path) -> "subprocess.CompletedProcess[str]":
    options = ("--count", "150", "--texts", "40")
    return run("evaluate", "--baseline", SOURCE, "--candidate", candidate, *options, "--json")


def test_a_proved_checkpoint_is_served_and_shows_its_recovery(
    made: dict[str, Path], tmp_path: Path
) -> None:
    candidate = made["smoothquant-gptq-int8"]
    finished = evaluate(candidate)
    assert finished.returncode == 0, finished.stderr[-3000:]
    recovery = json.loads(finished.stdout)["recovery"]
    assert recovery["percent"] >= 99
    assert (candidate / "quality.html").is_file()
    with running_gateway(tmp_path, f"model.path={candidate}", "quality.min_recovery=99") as gateway:
        gateway.wait_ready()
        with gateway.client() as client:
            shown = client.get("/v1/models").json()["data"][0]["quality"]
    assert shown == {
        "recovery_percent": recovery["percent"],
        "interval_95": recovery["interval"],
    }


def test_shuffled_scales_pass_inspection_and_are_caught_by_evaluation_and_gate(
    made: dict[str, Path], tmp_path: Path
) -> None:
    damaged = shutil.copytree(made["dynamic-int8"], tmp_path / "damaged")
    reverse_scales(damaged, "model.layers.")
    assert run("inspect", damaged).returncode == 0
    finished = evaluate(damaged)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert json.loads(finished.stdout)["recovery"]["percent"] < 99
    refused = run(
        *("serve", "--profile", "bundled", "--set", f"model.path={damaged}"),
        *("--set", "quality.min_recovery=99", "--set", "server.port=0"),
        *("--set", f"auth.keys_file={write_no_keys(tmp_path)}"),
    )
    assert refused.returncode == 4
    assert "less than quality.min_recovery" in refused.stderr


def write_no_keys(folder: Path) -> Path:
    from tests.integration.gateway_process import write_keys

    return write_keys(folder / "keys.yaml")


def reverse_scales(checkpoint: Path, prefix: str) -> None:
    """In every linear of a layer: the largest scale where the smallest belongs, and so on.

    Only data changes, and all of it stays plausible. (Scales of one small linear are so alike that
    any order of them loses this model nothing.)
    """
    for tensor in read_checkpoint(checkpoint).tensors:
        if not tensor.name.startswith(prefix) or not tensor.name.endswith(".weight_scale"):
            continue
        path = checkpoint / tensor.shard
        data = bytearray(path.read_bytes())
        end = tensor.start + tensor.num_bytes
        # Positive bfloat16 values sort as their bits do.
        values = array.array("H", bytes(data[tensor.start : end]))
        ranked = sorted(range(len(values)), key=values.__getitem__)
        reverse = array.array("H", values)
        for low, high in zip(ranked, reversed(ranked), strict=True):
            reverse[low] = values[high]
        data[tensor.start : end] = reverse.tobytes()
        path.write_bytes(data)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_leaves_nothing_that_looks_finished(
    tmp_path: Path, calibration: Path, number: signal.Signals
) -> None:
    out, partial = tmp_path / "w8a8", tmp_path / ".w8a8.partial"
    words = quantize_words("gptq-int8", out, calibration)
    log_file = tmp_path / "log"
    # Whoever runs the tests may have been started in the background, with SIGINT ignored.
    words = ["env", "--default-signal=INT", *command(*words)]
    with log_file.open("wb") as log:
        process = subprocess.Popen(words, cwd=ROOT, env=environment(), stdout=log, stderr=log)
    try:
        wait_until_calibrating(log_file, process)
        assert partial.exists()
        process.send_signal(number)
        assert process.wait(120) != 0
    finally:
        process.kill()
    assert not out.exists()
    if number is signal.SIGKILL:  # it could not clean up; the next run does
        assert run(*quantize_words("dynamic-int8", out, calibration)).returncode == 0
        assert (out / "provenance.json").is_file()
    assert not partial.exists()


def wait_until_calibrating(log_file: Path, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while b"Calibrating" not in log_file.read_bytes():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
