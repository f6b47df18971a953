"""A gateway of our own around a profile, for as long as it is asked things."""

import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from app.bench.target import Target
from app.core.errors import AppError

START_TIMEOUT_S = 300
STOP_TIMEOUT_S = 60


class GatewayError(AppError):
    """The gateway did not start; the sentence ends with its own last words."""


@contextlib.contextmanager
def serving(profile: str) -> Iterator[Target]:
    """The shipped command on a free port of this machine, with a key of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        settings = (f"server.port={port}", f"auth.keys_file={folder / 'keys.yaml'}")
        words = [word for each in settings for word in ("--set", each)]
        command = [sys.executable, "-m", "app", "serve", "--profile", profile]
        command += ["--local-key", str(folder / "key"), *words]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until_ready(process, url, folder / "log")
            secret = (folder / "key").read_text(encoding="utf-8").strip()
            yield Target(profile, url, secret)
        finally:
            process.terminate()
            process.wait(STOP_TIMEOUT_S)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def wait_until_ready(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/ready").status_code == 200:
                return
        time.sleep(0.5)
    last_words = log.read_text(encoding="utf-8", errors="replace")[-800:]
    raise GatewayError(f"The gateway did not start; it ended with:\n{last_words}")
