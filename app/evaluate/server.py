"""vLLM's own server around one checkpoint, for as long as it is asked things."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx

from app.core.errors import AppError

SERVED_NAME = "evaluated"
START_TIMEOUT_S = 1800  # 70 billion parameters from a slow disk
STOP_TIMEOUT_S = 30
LOG_TAIL_CHARS = 2000


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
    """Start the server, wait until it answers, and end it with all its processes, also where this
    process is told to end: in a group of its own, the server would outlive it."""
    port, key = free_port(), secrets.token_urlsafe(24)
    environment = {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        **os.environ,
        "VLLM_API_KEY": key,
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            choice.command(model, port),
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        try:
            endpoint = Endpoint(f"http://127.0.0.1:{port}", key)
            wait_until_ready(endpoint, process, model)
            yield endpoint
        except AppError as error:
            if process.poll() is None:
                raise
            raise AppError(f"{error.sentence} The server ended with:\n{tail(log)}") from error
        finally:
            stop(process)
            signal.signal(signal.SIGTERM, before)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_ready(endpoint: Endpoint, process: subprocess.Popen[bytes], model: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AppError(f"vLLM could not serve {model}.")
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{endpoint.url}/health", timeout=5).is_success:
                return
        time.sleep(0.5)
    raise AppError(f"vLLM was not ready to serve {model} after {START_TIMEOUT_S} s.")


def tail(log: IO[str]) -> str:
    log.seek(0)
    return log.read()[-LOG_TAIL_CHARS:]


def stop(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_S)
            break
    with contextlib.suppress(ProcessLookupError):  # an engine that outlived its server
        os.killpg(process.pid, signal.SIGKILL)
