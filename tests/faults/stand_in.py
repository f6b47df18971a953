"""Starts the stand-in server, and looks at it from outside."""

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from tests.faults.waiting import wait_for
from tests.integration.gateway_process import ROOT, SECRET, environment, free_port, write_keys

REPLICA = "stand-in"


@dataclass
class Server:
    port: int
    keys: Path
    process: psutil.Process

    @property
    def rss_bytes(self) -> int:
        return int(self.process.memory_info().rss)

    @property
    def num_descriptors(self) -> int:
        return int(self.process.num_fds())

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def post(self) -> httpx.Response:
        headers = {"authorization": f"Bearer {SECRET}"}
        url = f"http://127.0.0.1:{self.port}/v1/chat/completions"
        return httpx.post(url, json={"model": "x"}, headers=headers, timeout=60)

    def ask(self) -> int:
        return self.post().status_code

    def ask_for_id(self) -> str:
        return str(self.post().headers["x-request-id"])

    def is_serving(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return self.ask() == 200
        return False

    def num_in_flight(self) -> float:
        headers = {"authorization": f"Bearer {SECRET}"}
        url = f"http://127.0.0.1:{self.port}/metrics"
        lines = httpx.get(url, headers=headers, timeout=60).text.splitlines()
        (line,) = [each for each in lines if each.startswith("gateway_requests_in_flight ")]
        return float(line.split()[1]) - 1  # this one


@contextlib.contextmanager
def running_server(
    folder: Path,
    *,
    most_descriptors: int = 8192,
    log: Path = Path("/dev/null"),
    usage: Path | None = None,
) -> Iterator[Server]:
    """`usage`: a directory for the records of `REPLICA`; without one there are none."""
    port, keys = free_port(), write_keys(folder / "keys.yaml")
    command = [sys.executable, "-m", "tests.faults.stand_in_server", str(port), str(keys)]
    with (
        log.open("wb") as out,
        subprocess.Popen(
            [*command, str(most_descriptors), *([str(usage)] if usage else [])],
            cwd=ROOT,
            env=environment(),
            stdout=out,
            stderr=out,
        ) as process,
    ):
        server = Server(port, keys, psutil.Process(process.pid))
        try:
            wait_for(server.is_serving, "the server does not start")
            yield server
        finally:
            process.kill()
