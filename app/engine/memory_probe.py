"""Start one engine with made-up weights and report what it holds.

Run by `app.plan.bench_command` as `python -m app.engine.memory_probe MODEL_DIRECTORY SETTINGS`,
in a process of its own, so that each engine starts on free memory. SETTINGS is a JSON object of
vLLM's engine arguments.
"""

import json
import sys
from typing import Any

from app.core.report_line import tell
from app.engine.device import describe_device


def main(directory: str, settings: str) -> None:
    from vllm import LLM  # the worker processes import this file too, and have no use for it

    engine = LLM(
        model=directory,
        load_format="dummy",
        skip_tokenizer_init=True,
        disable_log_stats=True,
        worker_extension_cls="app.engine.worker_extension.WorkerExtension",
        **json.loads(settings),
    ).llm_engine
    config = engine.vllm_config
    report: dict[str, Any] = engine.collective_rpc("report_loaded_model")[0]
    result = {
        "parameter_bytes": report["parameter_bytes"],
        "gpu_memory": report["gpu_memory"],
        "layers": report["layers"],
        "versions": describe_device(),
        "num_blocks": config.cache_config.num_gpu_blocks,
        "block_tokens": config.cache_config.block_size,
        "kv_tokens": config.cache_config.kv_cache_size_tokens,
    }
    tell(result)


if __name__ == "__main__":
    main(*sys.argv[1:])
