"""The environment variables that vLLM reads, set once before it is imported."""

import shutil
from collections.abc import MutableMapping
from pathlib import Path

from app.core.engine_options import EngineOptions

# Names under which vLLM and the CUDA runtime would log or send what we never do, or that open
# routes we do not serve. Set whatever the environment says.
FORCED = {
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # fork copies a process with running threads
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "VLLM_CONFIGURE_LOGGING": "1",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # standard output is our own log
    "VLLM_SERVER_DEV_MODE": "0",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "0",
    "VLLM_ALLOW_INSECURE_SERIALIZATION": "0",
    "VLLM_ENABLE_RESPONSES_API_STORE": "0",
}


def prepare_environment(
    options: EngineOptions, log_level: str, hf_token: str | None, environ: MutableMapping[str, str]
) -> None:
    """Tell vLLM what it can only be told by environment. Has to run before `import vllm`."""
    environ.update(FORCED)
    environ.pop("VLLM_LOGGING_CONFIG_PATH", None)  # could set debug, at which prompts are logged
    # At debug vLLM logs whole requests; prompts are never logged here.
    environ["VLLM_LOGGING_LEVEL"] = "INFO" if log_level == "debug" else log_level.upper()
    environ["VLLM_CPU_KVCACHE_SPACE"] = str(options.cpu_kv_cache_gib)
    environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    environ.setdefault("OTEL_SERVICE_NAME", "w8a8-gateway")
    if hf_token:
        environ["HF_TOKEN"] = hf_token
    if Path(options.model).is_dir():
        environ["HF_HUB_OFFLINE"] = "1"  # a local model needs nobody else


def disable_compiling_without_compiler(environ: MutableMapping[str, str]) -> bool:
    """Without a C++ compiler PyTorch's compiled code ends the engine, some of it only at the first
    request for log probabilities. Returns whether compiling is off for that reason."""
    if shutil.which("g++") or shutil.which("c++") or shutil.which("clang++"):
        return False
    environ["TORCH_COMPILE_DISABLE"] = "1"
    return True
