"""A real redis-server: the machine's, or else the distribution's, unpacked beside."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import redis

from tests.debian import UNPACKED, find_program
from tests.integration.gateway_process import free_port

PACKAGES = ("redis-server", "redis-tools", "libjemalloc2", "liblzf1", "libatomic1")
START_TIMEOUT_S = STOP_TIMEOUT_S = 120


@cache
def find() -> str:
    return find_program("redis-server", *PACKAGES)


def library_path() -> dict[str, str]:
    """Where the unpacked program finds its libraries."""
    libraries = UNPACKED / PACKAGES[0] / "usr" / "lib" / f"{os.uname().machine}-linux-gnu"
    return {"LD_LIBRARY_PATH": str(libraries)}


@dataclass
class RedisServer:
    """A server with an append-only file in `folder`; it can be stopped, frozen and started anew."""

    folder: Path
    port: int
    options: Sequence[str] = ()
    process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> "redis.Redis":
        return redis.Redis(port=self.port, decode_responses=True, socket_timeout=5)

    def start(self) -> None:
        command = [find(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        # With `everysec` it keeps what it appends to itself while the disk is busy with the second
        # before, and a kill loses that. Without, a kill loses nothing, however slow the disk.
        kept = ["--appendonly", "yes", "--appendfsync", "no"]
        command += ["--dir", str(self.folder), *kept, *self.options]
        with (self.folder / "redis.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                env=os.environ | library_path(),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._wait()

    def _wait(self) -> None:
        give_up_s = time.monotonic() + START_TIMEOUT_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            assert time.monotonic() < give_up_s, (self.folder / "redis.log").read_text()[-2000:]
            time.sleep(0.02)

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
            self.process.wait(STOP_TIMEOUT_S)
            self.process = None


@contextlib.contextmanager
def running_redis(folder: Path, *options: str, port: int = 0) -> Iterator[RedisServer]:
    server = RedisServer(folder, port or free_port(), options)
    server.start()
    try:
        yield server
    finally:
        server.stop(signal.SIGKILL)
