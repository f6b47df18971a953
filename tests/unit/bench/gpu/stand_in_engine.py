"""Speaks as app/engine/offline.py does, with no engine behind it: a run lasts a millisecond for
each token. A case of 13 sequences ends it, one of 14 hangs it; SETTINGS with "broken" end it.
"""

import json
import sys
import time
from pathlib import Path

MARK = "report: "
LOADED = {
    "start_s": 2.5,
    "layers": {"CompressedTensorsW8A8Int8/CutlassInt8ScaledMMLinearKernel": 8},
    "parameter_bytes": 2**30,
    "gpu_memory": {},
    "kv_tokens": 123456,
    "compile_mode": "VLLM_COMPILE",
    "graph_mode": "FULL_AND_PIECEWISE",
    "step_tokens": 8192,
    "vllm": "0.32.0",
    "torch": "2.13.0",
    "device": "a stand-in",
    "driver": "580.1",
}

TRACE = json.dumps(
    {
        "traceEvents": [
            {"cat": "kernel", "name": "sm90_gemm", "ts": 10, "dur": 60},
            {"cat": "kernel", "name": "dynamic_scaled_int8_quant_kernel", "ts": 90, "dur": 20},
        ]
    }
)


def answer(values: dict[str, object]) -> None:
    print(f"\n{MARK}{json.dumps(values)}", flush=True)


print("INFO: loading")
if "broken" in json.loads(sys.argv[2]):
    sys.exit("no kernel image is available")
answer(LOADED)
for line in sys.stdin:
    case = json.loads(line)
    if case["num_seqs"] == 13:
        sys.exit("out of memory")
    while case["num_seqs"] == 14:
        time.sleep(1)
    tokens = case["output_tokens"]
    run = {"wall_s": tokens / 1e3, "num_steps": tokens}
    if tokens > 1:
        rate = case["num_seqs"] * 1e3
        run |= {"step_s": 1e-3, "step_p99_s": 2e-3, "decoded_per_s": rate}
    if "profile" in case:
        folder = Path(json.loads(sys.argv[2])["profiler_config"]["torch_profiler_dir"])
        (folder / f"{case['profile']}_rank0.1.pt.trace.json").write_text(TRACE)
    answer({"runs": [run] * case.get("repeat", 1)})
