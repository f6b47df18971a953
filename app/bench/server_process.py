"""A server that is started, waited for and ended by who measures it."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn

from app.bench.process_cpu import PROC
from app.bench.target import Target, TargetError, first_model, read_key
from app.core.errors import AppError

START_S = 300
STOP_S = 30
LAST_WORDS_BYTES = 2000
# With which vLLM asks no hub for a model that is here, and tells nobody that it is used.
QUIET_VLLM = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}


class ServerError(AppError):
    """A server that did not start; the sentence names its log, and ends with its last words."""


@dataclass(frozen=True)
class ServerPlan:
    """`api_command` is the name, as the kernel has it, of the process that speaks HTTP; None: the
    one that is started. `key_file` holds the server's key once it runs. `start_s` is how long it
    may take until it answers.
    """

    name: str
    arguments: Sequence[str]
    port: int
    environment: Mapping[str, str] = field(default_factory=dict)
    api_command: str | None = None
    key_file: Path | None = None
    start_s: float = START_S

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class ServerProcess:
    """Runs in a process group of its own, so that its processes can be found and ended together:
    with the block, also where SIGTERM ends this process. To be entered in the main thread.

    Not in a session of its own: Linux gives each session's processes a share of the CPUs of their
    own (autogroup), and clients in the other one stood still for as long as the server's engine
    was busy, on two cores for seconds.
    """

    def __init__(self, plan: ServerPlan, log: Path) -> None:
        self.plan = plan
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "ServerProcess":
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self.plan.arguments,
                env={**os.environ, **self.plan.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        self._before = signal.signal(signal.SIGTERM, leave)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.end()
        finally:
            signal.signal(signal.SIGTERM, self._before)

    def end(self) -> None:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            for pid in group_processes(self.root_pid):
                signal_process(pid, sign)
            if self.has_ended(STOP_S):
                return

    @property
    def root_pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the server has not been started")
        return self._process.pid

    def has_ended(self, timeout_s: float) -> bool:
        """Whether all its processes are gone within the time."""
        give_up_s = time.monotonic() + timeout_s
        while time.monotonic() < give_up_s:
            if not group_processes(self.root_pid):
                if self._process is not None:
                    self._process.wait()  # it has ended; the kernel keeps it until it is asked
                return True
            time.sleep(0.1)
        return False

    def wait_until_ready(self) -> Target:
        """Raises ServerError when it ends or takes too long."""
        give_up_s = time.monotonic() + self.plan.start_s
        while time.monotonic() < give_up_s and self.is_running:
            try:
                target = self.target()
                first_model(target)
            except TargetError:
                time.sleep(0.5)
            else:
                return target
        raise ServerError(
            f"{self.plan.name} did not start; its log is {self._log}:\n{self.last_words}"
        )

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def last_words(self) -> str:
        """The end of its log."""
        return self._log.read_bytes()[-LAST_WORDS_BYTES:].decode(errors="replace").strip()

    def target(self) -> Target:
        key = read_key(self.plan.key_file) if self.plan.key_file else None
        return Target(self.plan.name, self.plan.url, key)

    @property
    def pids(self) -> tuple[int, ...]:
        return tuple(group_processes(self.root_pid))

    @property
    def api_pids(self) -> tuple[int, ...]:
        if self.plan.api_command is None:
            return (self.root_pid,)
        commands = group_processes(self.root_pid)
        return tuple(pid for pid, command in commands.items() if command == self.plan.api_command)


def leave(number: int, _: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def group_processes(group: int) -> dict[int, str]:
    """Processes of the group and their commands; those that have ended are left out."""
    found = {}
    for folder in PROC.iterdir():
        if folder.name.isdigit() and (status := read_status(folder)):
            command, state, at = status
            if at == group and state != "Z":
                found[int(folder.name)] = command
    return found


def read_status(folder: Path) -> tuple[str, str, int] | None:
    """Command, state and process group of a process; None if it has just ended."""
    try:
        stat = (folder / "stat").read_text()
    except OSError:
        return None
    head, _, rest = stat.rpartition(")")
    fields = rest.split()
    return head.partition("(")[2], fields[0], int(fields[2])


def signal_process(pid: int, sign: signal.Signals) -> None:
    try:
        os.kill(pid, sign)
    except ProcessLookupError:
        return  # it ended by itself


def python_path() -> str:
    """Ours first; then what this process was given, where a host keeps its packages so."""
    return os.pathsep.join(filter(None, (str(Path.cwd()), os.environ.get("PYTHONPATH"))))


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
