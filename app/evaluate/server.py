"""vLLM's own server around one checkpoint, for as long as it is asked things."""

import contextlib
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from app.bench.server_process import QUIET_VLLM, ServerPlan, ServerProcess, free_port
from app.core.errors import AppError

SERVED_NAME = "evaluated"
START_TIMEOUT_S = 1800  # 70 billion parameters from a slow disk


@dataclass(frozen=True, slots=True)
class Endpoint:
    url: str
    key: str

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {self.key}"},
            timeout=600,
            # The server closes a connection after 5 idle seconds; it must not be reused just then.
            limits=httpx.Limits(max_connections=None, keepalive_expiry=2),
        )


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """How the engine is started; the same for baseline and candidate."""

    arguments: tuple[str, ...]
    num_logprobs: int  # of a next-token distribution; -1: of the whole vocabulary
    tool_call_parser: str | None

    def command(self, model: Path, port: int) -> list[str]:
        tools: tuple[str, ...] = ()
        if self.tool_call_parser:
            tools = ("--enable-auto-tool-choice", "--tool-call-parser", self.tool_call_parser)
        return [
            *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
            *("--model", str(model), "--served-model-name", SERVED_NAME),
            *("--host", "127.0.0.1", "--port", str(port)),
            *("--max-logprobs", str(self.num_logprobs)),
            *tools,
            *self.arguments,
        ]


@contextlib.contextmanager
def serving(model: Path, choice: EngineChoice) -> Iterator[Endpoint]:
    """Start the server, wait until it answers, and end it with all its processes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with ServerProcess(plan_server(model, choice, folder), folder / "log") as server:
            target = server.wait_until_ready()
            try:
                yield Endpoint(target.url, target.api_key or "")
            except AppError as error:
                if server.is_running:
                    raise
                raise AppError(
                    f"{error.sentence} The server ended with:\n{server.last_words}"
                ) from error


def plan_server(model: Path, choice: EngineChoice, folder: Path) -> ServerPlan:
    """With a key of its own, which is not on its command line."""
    port, key, key_file = free_port(), secrets.token_urlsafe(24), folder / "key"
    key_file.touch(mode=0o600)
    key_file.write_text(key)
    environment = {
        "VLLM_CPU_KVCACHE_SPACE": os.environ.get("VLLM_CPU_KVCACHE_SPACE", "1"),
        "VLLM_API_KEY": key,
        **QUIET_VLLM,
        "TOKENIZERS_PARALLELISM": "false",
    }
    return ServerPlan(
        f"vLLM on {model}",
        choice.command(model, port),
        port,
        environment,
        key_file=key_file,
        start_s=START_TIMEOUT_S,
    )
