"""`bench-gpu` with the real engine, on a tiny shape: what a GPU gets, as far as a CPU can."""

import json
from pathlib import Path

import pytest

from app.__main__ import main
from app.bench.gpu.results import modes_in, read_journal
from app.core.llama_shape import TINY

ENGINE = {"enforce_eager": True, "kv_cache_memory_bytes": 2**28, "max_num_batched_tokens": 512}
OPTIONS = "--shape tiny --modes int8,bf16 --sequences 8,1 --prompt-tokens 16 --output-tokens 32"
KERNELS = {
    "int8": "CompressedTensorsW8A8Int8/CPUInt8ScaledMMLinearKernel",
    "bf16": "UnquantizedLinearMethod/none",
}


def test_both_modes_run_on_their_kernels_and_every_load_is_timed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results.jsonl"
    places = ["--checkpoints", str(tmp_path), "--results", str(results)]
    prefill = ["--prefill", "512", "--prefill-tokens", "1024"]
    options = [*OPTIONS.split(), *prefill, *places, "--engine", json.dumps(ENGINE)]
    assert main(["bench-gpu", *options]) == 0
    modes = {mode.name: mode for mode in modes_in(read_journal(results))}
    assert {name: mode.loaded["layers"] for name, mode in modes.items()} == {
        name: {kernel: 4 * TINY.num_layers} for name, kernel in KERNELS.items()
    }
    for mode in modes.values():
        assert len(mode.runs) == 3
        for case, runs in mode.runs.items():
            assert len(runs) == 3
            # A step gives each sequence a token; one more may start or end them.
            steps = range(case.output_tokens, case.output_tokens + 3)
            assert case.output_tokens == 1 or {run["num_steps"] for run in runs} <= {*steps}
    bytes_of = {name: mode.loaded["parameter_bytes"] for name, mode in modes.items()}
    # The CPU keeps two scales for each output channel.
    saved = TINY.linear_values - 2 * 4 * TINY.linear_scales
    assert bytes_of["bf16"] - bytes_of["int8"] == pytest.approx(saved, abs=8)
    out = capsys.readouterr().out
    assert "INT8 W8A8 gives" in out
    assert "Ceilings, measured on the same device" in out
