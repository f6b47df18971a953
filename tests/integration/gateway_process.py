"""Start the real command as a user would, and talk to it over HTTP."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
SECRET = "sk-test-" + "0" * 40
LIMITED_SECRET = "sk-test-limited-" + "2" * 40
METRICS_SECRET = "sk-test-metrics-" + "1" * 40
FUZZ_SECRET = "sk-test-fuzz-" + "3" * 40
START_TIMEOUT_S = 480
# What a server of a test may see of this machine: nothing that would set one of its settings.
PASSED_ON = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "TMPDIR")


def free_port() -> int:
    return free_ports(1)[0]


def free_ports(num: int) -> list[int]:
    """Each another: all are held until the last is found."""
    with contextlib.ExitStack() as held:
        socks = [held.enter_context(socket.socket()) for _ in range(num)]
        for sock in socks:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in socks]


def write_keys(path: Path) -> Path:
    """Keys by the command's own code: one that may do everything, one for metrics alone, one that
    has a single request per minute and short answers, one that has short answers alone."""
    from app.core.keys import digest_of, make_key
    from app.settings.key_file import write_keys as write

    everything = make_key("tester", digest_of(SECRET), ["infer", "metrics", "admin"])
    scraper = make_key("scraper", digest_of(METRICS_SECRET), ["metrics"])
    limits = {"requests_per_minute": 1, "max_tokens": 3, "max_n": 2}
    limited = make_key("limited", digest_of(LIMITED_SECRET), ["infer"], limits=limits)
    brief = make_key("fuzzer", digest_of(FUZZ_SECRET), ["infer"], limits={"max_tokens": 64})
    write(path, [everything, scraper, limited, brief])
    return path


@dataclass
class GatewayProcess:
    """A running `python -m app serve`. `early` holds what it answered while the model loaded."""

    process: "subprocess.Popen[bytes]"
    url: str
    management_url: str
    log_file: Path
    early: list[tuple[str, int, Any]] = field(default_factory=list)

    def client(self, secret: str | None = SECRET, timeout: float = 60) -> httpx.Client:
        headers = {"authorization": f"Bearer {secret}"} if secret else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=timeout)

    def log(self) -> list[dict[str, Any]]:
        """Its JSON lines so far."""
        lines = self.log_file.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def wait_ready(self) -> None:
        """Until /ready says yes; what the server answers before that is kept in `early`."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode}: {self.tail()}")
            with contextlib.suppress(httpx.TransportError):
                if self._probe():
                    return
            time.sleep(0.25)
        raise AssertionError(f"not ready in time: {self.tail()}")

    def _probe(self) -> bool:
        """Readiness is asked for last: who is not ready then was not ready before."""
        with self.client(timeout=10) as client:
            answers = [(path, client.get(path)) for path in ("/health", "/v1/models", "/ready")]
        if answers[-1][1].status_code == 200:
            return True
        self.early += [
            (path, answer.status_code, dict(answer.headers) | {"_": answer.text})
            for path, answer in answers
        ]
        return False

    def tail(self) -> str:
        return self.log_file.read_text()[-3000:]

    def engine_pids(self) -> list[int]:
        """Its descendants that are vLLM's engine core."""
        return self._descendants("EngineCore")

    def worker_pids(self) -> list[int]:
        """Its descendants that run the model."""
        return self._descendants("VLLM::Worker")

    def _descendants(self, title: str) -> list[int]:
        import psutil

        found: list[int] = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # a trial of a grammar that just ended
                if title in " ".join(child.cmdline()):
                    found.append(child.pid)
        return found

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(180)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(60)
        return self.process.returncode


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "app", *arguments]


def environment(**variables: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return kept | {"PYTHONPATH": str(ROOT)} | variables


@contextlib.contextmanager
def running_gateway(
    folder: Path,
    *settings: str,
    profile: str = "bundled",
    cwd: Path = ROOT,
    variables: Mapping[str, str] | None = None,
    ports: tuple[int, int] | None = None,
) -> Iterator[GatewayProcess]:
    """Start it, with `variables` in its environment, on `ports` or on free ones; it is stopped at
    the end if it still runs."""
    port, management_port = ports or free_ports(2)
    keys = write_keys(folder / "keys.yaml")
    assignments: Sequence[str] = (
        f"server.port={port}",
        f"server.management_port={management_port}",
        f"auth.keys_file={keys}",
        "engine.enforce_eager=true",
        *settings,
    )
    words = [word for assignment in assignments for word in ("--set", assignment)]
    log_file = folder / "gateway.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            command("serve", "--profile", profile, *words),
            cwd=cwd,
            env=environment(**(variables or {})),
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    scheme = "https" if any("tls_key" in each for each in settings) else "http"
    gateway = GatewayProcess(
        process,
        f"{scheme}://127.0.0.1:{port}",
        f"http://127.0.0.1:{management_port}",
        log_file,
    )
    try:
        yield gateway
    finally:
        gateway.stop()
