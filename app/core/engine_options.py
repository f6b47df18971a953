"""What the engine is started with, as plain values, and vLLM's arguments made of them."""

import shlex
from dataclasses import dataclass

from app.core.errors import SettingsError

# vLLM's arguments that our settings own, and the setting to use instead. The rest of what we set
# ourselves has no setting: it is what makes the service safe.
OWNED = {
    "model": "model.path",
    "tokenizer": "model.path",
    "revision": "model.revision",
    "tokenizer-revision": "model.revision",
    "served-model-name": "model.served_name",
    "hf-token": "model.hf_token",
    "gpu-memory-utilization": "engine.gpu_memory_utilization",
    "max-model-len": "engine.max_model_len",
    "max-num-batched-tokens": "engine.max_num_batched_tokens",
    "max-num-seqs": "engine.max_num_seqs",
    "dtype": "engine.dtype",
    "kv-cache-dtype": "engine.kv_cache_dtype",
    "tensor-parallel-size": "engine.tensor_parallel_size",
    "enforce-eager": "engine.enforce_eager",
    "tool-call-parser": "engine.tool_call_parser",
    "enable-auto-tool-choice": "engine.tool_call_parser",
    "host": "server.host",
    "port": "server.port",
    "ssl-certfile": "server.tls_certificate",
    "ssl-keyfile": "server.tls_key",
    "sse-keep-alive-interval": "server.sse_keep_alive_s",
    "api-key": "auth.keys_file",
    "otlp-traces-endpoint": "tracing.otlp_endpoint",
}
REFUSED = {
    "worker-extension-cls": "the gateway's own is loaded, to read the kernels that were chosen",
    "middleware": "it would run inside the gateway's process, before its checks",
    "trust-request-chat-template": "a request's template is code that runs in the server",
    "enable-log-requests": "prompts are never logged",
    "enable-log-outputs": "completions are never logged",
    "disable-log-stats": "the vllm: metrics come from them",
    "api-server-count": "the engine runs in the gateway's process",
    "headless": "the engine runs in the gateway's process",
    "uds": "the gateway has its own listener",
    "config": "use --config of the gateway",
    "structured-outputs-config": "constraints are tried out on the backend that is pinned",
}
# Every constraint compiles on this one, here and in app.engine.grammar_host.
STRUCTURED_OUTPUTS_BACKEND = "xgrammar"
# Short forms that vLLM's parser takes.
_SHORT = {"-tp": "tensor-parallel-size", "-q": "quantization", "-O": "compilation-config"}


@dataclass(frozen=True)
class EngineOptions:
    """The engine's part of the settings. `None` leaves vLLM's own default."""

    model: str
    revision: str | None
    served_name: str
    gpu_memory_utilization: float
    max_model_len: int | None
    max_num_batched_tokens: int | None
    max_num_seqs: int | None
    dtype: str
    kv_cache_dtype: str
    tensor_parallel_size: int
    enforce_eager: bool
    cpu_kv_cache_gib: int
    tool_call_parser: str | None
    extra_args: str
    otlp_endpoint: str | None = None

    def arguments(self) -> list[str]:
        """vLLM's command line. Raises SettingsError for an extra argument that is not free."""
        valued: dict[str, object | None] = {
            "--model": self.model,
            "--revision": self.revision,
            "--tokenizer-revision": self.revision,
            "--served-model-name": self.served_name,
            "--gpu-memory-utilization": self.gpu_memory_utilization,
            "--max-model-len": self.max_model_len,
            "--max-num-batched-tokens": self.max_num_batched_tokens,
            "--max-num-seqs": self.max_num_seqs,
            "--dtype": self.dtype,
            "--kv-cache-dtype": self.kv_cache_dtype,
            "--tensor-parallel-size": self.tensor_parallel_size,
            "--tool-call-parser": self.tool_call_parser,
            "--otlp-traces-endpoint": self.otlp_endpoint,
        }
        valued["--structured-outputs-config.backend"] = STRUCTURED_OUTPUTS_BACKEND
        arguments = [f"{name}={value}" for name, value in valued.items() if value is not None]
        if self.enforce_eager:
            arguments.append("--enforce-eager")
        if self.tool_call_parser:
            arguments.append("--enable-auto-tool-choice")
        return arguments + split_extra(self.extra_args)


def split_extra(extra: str) -> list[str]:
    """`engine.extra_args` as words, as a shell splits them; owned and unsafe ones are refused."""
    try:
        words = shlex.split(extra)
    except ValueError as error:
        raise SettingsError(f"engine.extra_args (EXTRA_ARGS) cannot be split: {error}.") from None
    for word in words:
        name = name_of(word)
        if setting := OWNED.get(name):
            raise SettingsError(
                f"engine.extra_args (EXTRA_ARGS) sets --{name}; use the setting {setting} instead."
            )
        if reason := REFUSED.get(name):
            raise SettingsError(
                f"engine.extra_args (EXTRA_ARGS) sets --{name}, which cannot be set: {reason}."
            )
    return words


def name_of(word: str) -> str:
    """The argument that a word names, in vLLM's spelling with dashes; empty for a plain value.

    vLLM takes `_` for `-`, `--no-` forms, and dotted paths into an argument (`--x.y=1`).
    """
    head = word.partition("=")[0]
    if head in _SHORT:
        return _SHORT[head]
    if not head.startswith("--"):
        return ""
    return head[2:].partition(".")[0].replace("_", "-").removeprefix("no-")
