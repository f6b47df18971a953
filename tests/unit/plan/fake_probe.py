"""Stands in for app.engine.memory_probe: says what a plan would, or fails for a tiny cache."""

import json
import sys
from pathlib import Path

from app.core.report_line import tell


def main(directory: str, settings: str) -> int:
    config = json.loads((Path(directory) / "config.json").read_text())
    wanted = json.loads(settings)
    if wanted["max_num_seqs"] == 256:
        print("out of memory", file=sys.stderr)
        return 3
    assert config["hidden_size"] == 256
    said = {
        "parameter_bytes": 7_175_680,
        "gpu_memory": {},
        "versions": {"vllm": "0.32.0", "torch": "2.13.0"},
        "num_blocks": wanted["kv_cache_memory_bytes"] // 262144,
        "kv_tokens": 51_200,
    }
    print("vLLM says many things")
    tell(said)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
