"""The engine without a server (app/engine/offline.py), as the process that measures sees it."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, cast

from app.bench.server_process import QUIET_VLLM, python_path
from app.core.errors import AppError
from app.core.report_line import find_report, read_report

ENGINE = (sys.executable, "-m", "app.engine.offline")
CEILINGS = (sys.executable, "-m", "app.engine.ceilings")
STOP_S = 30
ENVIRONMENT = {
    **QUIET_VLLM,
    "PYTHONUNBUFFERED": "1",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
}


class EngineError(AppError):
    """An engine that ended, or took too long; the sentence names its log."""


@dataclass(frozen=True, slots=True)
class Case:
    """`num_seqs` sequences that come at once, `repeat` times. An `output_tokens` of 1 is prefill
    alone."""

    num_seqs: int
    prompt_tokens: int
    output_tokens: int
    repeat: int = 3

    @property
    def is_prefill(self) -> bool:
        return self.output_tokens == 1

    @property
    def as_json(self) -> dict[str, int]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """A model's directory, vLLM's engine arguments, where the log goes, and what is added to the
    environment."""

    model: Path
    settings: Mapping[str, Any]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def command(self) -> list[str]:
        return [*ENGINE, str(self.model), json.dumps(dict(self.settings))]


class OfflineEngine:
    """Started by entering it; killed with all its processes when it is left."""

    def __init__(self, plan: EnginePlan) -> None:
        self._plan = plan
        self._answers: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._process: subprocess.Popen[str]

    def __enter__(self) -> "OfflineEngine":
        self._plan.log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": python_path()}
        environment |= self._plan.environment
        with self._plan.log.open("w") as log:
            self._process = subprocess.Popen(
                self._plan.command,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                process_group=0,
            )
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,))
        self._reader.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            cast(IO[str], self._process.stdin).close()
        if error is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_S)
        with contextlib.suppress(ProcessLookupError):  # its own group: the engine core too
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join()

    @property
    def pid(self) -> int:
        return self._process.pid

    def loaded(self, deadline_s: float) -> dict[str, Any]:
        """What it says when it has started. `deadline_s` is of time.monotonic()."""
        return self._answer(deadline_s, "start")

    def run(self, case: Case, deadline_s: float) -> list[dict[str, float]]:
        """Raises EngineError when the engine ends, or is not done by then."""
        return self._ask(case.as_json, deadline_s)

    def profile(self, case: Case, name: str, num_steps: int, deadline_s: float) -> None:
        """Record so many steps of the case; its `repeat` does not matter."""
        asked = {key: value for key, value in case.as_json.items() if key != "repeat"}
        self._ask({**asked, "profile": name, "steps": num_steps}, deadline_s)

    def _ask(self, case: dict[str, Any], deadline_s: float) -> list[dict[str, float]]:
        asked = cast(IO[str], self._process.stdin)
        with contextlib.suppress(BrokenPipeError):  # it has ended: the answer says so
            asked.write(json.dumps(case) + "\n")
            asked.flush()
        runs: list[dict[str, float]] = self._answer(deadline_s, "answer")["runs"]
        return runs

    def _answer(self, deadline_s: float, what: str) -> dict[str, Any]:
        try:
            answer = self._answers.get(timeout=max(0.0, deadline_s - time.monotonic()))
        except queue.Empty:
            raise EngineError(f"The engine did not {what} in time ({self._plan.log}).") from None
        if answer is None:
            raise EngineError(f"The engine ended; its log is {self._plan.log}.")
        return answer

    def _read(self, output: IO[str]) -> None:
        """Puts None when the engine has ended. What else it prints goes to its log."""
        with output, self._plan.log.open("a") as log:
            for line in output:
                if (report := read_report(line)) is None:
                    log.write(line)
                else:
                    self._answers.put(report)
        self._answers.put(None)


def read_ceilings(timeout_s: float, log: Path) -> dict[str, Any]:
    """The device's ceilings (app/engine/ceilings.py), measured in a process of its own."""
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": python_path()}
    with log.open("w") as said:
        try:
            ended = subprocess.run(
                CEILINGS,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise EngineError(f"The ceilings took longer than {timeout_s:.0f} s.") from error
    found = find_report(ended.stdout)
    if found is None:
        raise EngineError(f"The ceilings could not be measured; the log is {log}.")
    return found
