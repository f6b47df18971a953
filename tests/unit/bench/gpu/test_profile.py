"""Traces by hand: the kinds of kernels, what runs at once, and where the GPU waits."""

import gzip
import json
from pathlib import Path

import pytest

from app.__main__ import main
from app.bench.gpu.trace import Event, TraceError, busy_us, profile_lines, read_events


def trace(*events: dict[str, object]) -> bytes:
    return json.dumps({"traceEvents": [{"ph": "M", "name": "process_name"}, *events]}).encode()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("void cutlass::device_kernel<flash::FlashAttnFwdSm90<...>>", "attention"),
        ("void cutlass::device_kernel<vllm::cutlass_3x_gemm<...>>", "matrix products"),
        ("nvjet_tst_128x64_64x8_1x2_h_bz_TNT", "matrix products"),
        (
            "void vllm::dynamic_scaled_int8_quant_kernel<c10::BFloat16, float>",
            "quantize activations",
        ),
        ("void vllm::reshape_and_cache_flash_kernel<...>", "KV cache write"),
        ("triton_red_fused__to_copy_add_mean_mul_pow_rsqrt_0", "norm, rotary, activation"),
        ("void vllm::rms_norm_kernel<c10::BFloat16>", "norm, rotary, activation"),
        ("void at::native::reduce_kernel<512, 1, ArgMaxOps>", "sampling"),
        ("Memcpy DtoH (Device -> Pinned)", "copies"),
        ("void at::native::vectorized_elementwise_kernel<4>", "other"),
    ],
)
def test_a_kernels_kind_is_in_its_name(name: str, kind: str) -> None:
    assert Event(name, 0, 1).kind == kind


def test_only_what_ran_on_the_gpu_is_read(tmp_path: Path) -> None:
    kernel = {"cat": "kernel", "name": "gemm", "ts": 5, "dur": 2}
    earlier = {"cat": "gpu_memcpy", "name": "Memcpy", "ts": 1, "dur": 1}
    host = {"cat": "cpu_op", "name": "aten::mm", "ts": 0, "dur": 9}
    path = tmp_path / "trace.json.gz"
    path.write_bytes(gzip.compress(trace(kernel, host, earlier)))
    assert read_events(path) == [Event("Memcpy", 1, 1), Event("gemm", 5, 2)]


def test_a_trace_of_the_host_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_bytes(trace({"cat": "cpu_op", "name": "aten::mm", "ts": 0, "dur": 9}))
    with pytest.raises(TraceError, match="No GPU works"):
        read_events(path)
    path.write_bytes(b"{")
    with pytest.raises(TraceError, match="cannot be read"):
        read_events(path)


def test_what_runs_at_once_counts_once() -> None:
    events = [Event("a", 0, 10), Event("b", 5, 3), Event("c", 8, 6), Event("d", 20, 1)]
    assert busy_us(events) == 15


def test_shares_are_of_the_time_from_the_first_to_the_last() -> None:
    events = [Event("gemm", 0, 60), Event("scaled_int8_quant", 80, 20)]
    rows = list(profile_lines("int8", events, num_steps=2))[2:]
    assert rows[0] == "| matrix products | 30 | 60.0% | 0 | `gemm` |"
    assert rows[1].startswith("| quantize activations | 10 | 20.0% |")
    assert rows[2] == "| nothing: waits for the host | 10 | 20.0% |  |  |"


def test_the_command_profiles_each_mode_and_size(
    stand_in: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--checkpoints", str(tmp_path), "--traces", str(tmp_path / "traces")]
    options = ["--shape", "tiny", "--modes", "int8", "--sequences", "4,2", "--steps", "2"]
    assert main(["profile-gpu", *places, *options]) == 0
    out = capsys.readouterr().out
    assert "| int8, 4 sequences |" in out
    assert "| int8, 2 sequences |" in out
    assert out.count("| quantize activations | 10 | 20.0% |") == 2
