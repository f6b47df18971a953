"""The host of grammar trials, as a process of the gateway, and who waits for its verdicts."""

import asyncio
import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from app.core.constraints import Constraint
from app.core.grammar_trial import Job, Trial, Verdict

_ROOT = Path(__file__).parents[2]


class HostProcess:
    """Everybody who waits is answered: with a verdict, or, when the host ends, that none comes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._pending: dict[int, asyncio.Future[Verdict]] = {}
        self._num_trials = 0
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, job: Job) -> "HostProcess":
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "app.engine.grammar_host"),
            cwd=_ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        host = cls(process)
        host._write(vars(job))
        return host

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None and not self._reading.done()

    async def try_out(self, constraints: Sequence[Constraint], timeout_s: float) -> Verdict:
        """Raises TimeoutError, and ConnectionError where the host ends."""
        self._num_trials += 1
        number = self._num_trials
        verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._pending[number] = verdict
        trial = Trial(number, [[each.kind, each.text] for each in constraints])
        try:
            async with asyncio.timeout(timeout_s):
                self._write(vars(trial))
                return await verdict
        finally:
            del self._pending[number]

    async def stop(self) -> None:
        self._stdin.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    @property
    def _stdin(self) -> asyncio.StreamWriter:
        assert self._process.stdin is not None  # noqa: S101 (it was asked for)
        return self._process.stdin

    def _write(self, line: object) -> None:
        self._stdin.write(json.dumps(line).encode() + b"\n")

    async def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 (it was asked for)
        try:
            async for line in self._process.stdout:
                verdict = Verdict(**json.loads(line))
                future = self._pending.get(verdict.number)
                if future is not None and not future.done():
                    future.set_result(verdict)
        finally:
            for future in self._pending.values():
                if not future.done():
                    future.set_exception(ConnectionResetError())
