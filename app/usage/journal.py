"""Writes usage records, in a thread of its own, so that no request waits for a disk."""

import fcntl
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from app.core.errors import StartError
from app.core.usage import Head, JournalState, UsageRecord, head_of
from app.usage.files import file_of, find_chains, find_last_line, number_of

logger = logging.getLogger("gateway")

FLUSH_INTERVAL_S = 0.5
# About 300 MB. More can only wait while the disk takes nothing; then records are dropped, and said.
MAX_WAITING = 500_000


class UsageJournal:
    """The chain of one replica, continued where its files end."""

    def __init__(
        self,
        directory: Path,
        replica: str,
        max_file_bytes: int,
        observe: Callable[[JournalState], None],
    ) -> None:
        """Raises StartError where the directory cannot be used or the chain is in other hands."""
        self.directory, self.replica, self.max_file_bytes = directory, replica, max_file_bytes
        self._observe = observe
        self._waiting: deque[UsageRecord] = deque()
        self._stopped = threading.Event()
        self._num_dropped = self._num_failures = 0
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = self._take_chain()
            self._number, self._size, self._head = self._find_end()
            self._file = self._open()
        except OSError as error:
            raise StartError(
                f"usage.directory: {directory} cannot be written ({error.strerror})."
            ) from None
        self._show()
        self._thread = threading.Thread(target=self._run, name="usage-journal", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def append(self, record: UsageRecord) -> None:
        """From any thread; on disk within a second."""
        if len(self._waiting) >= MAX_WAITING:
            self._num_dropped += 1
            return
        self._waiting.append(record)

    def close(self) -> None:
        """Write what waits, and end."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()
        self.flush()
        os.close(self._file)
        os.close(self._lock)

    def flush(self) -> None:
        """Write what waits. Where that fails the records wait on, and the next write tidies up."""
        num_taken = len(self._waiting)
        if not num_taken:
            return
        try:
            if self._size >= self.max_file_bytes:
                self._rotate()
            self._write(num_taken)
        except OSError as error:
            self._num_failures += 1
            extra = {"reason": error.strerror, "waiting": len(self._waiting)}
            logger.error("usage records cannot be written", extra=extra)
        self._show()

    def _write(self, num_taken: int) -> None:
        head, lines = self._head, bytearray()
        for index in range(num_taken):
            line, head = head.follow(self._waiting[index])
            lines += line + b"\n"
        if os.fstat(self._file).st_size > self._size:  # what a failed write has left
            os.ftruncate(self._file, self._size)
        view = memoryview(lines)
        while view:
            view = view[os.write(self._file, view) :]
        os.fsync(self._file)
        self._head, self._size = head, self._size + len(lines)
        for _ in range(num_taken):
            self._waiting.popleft()

    def _run(self) -> None:
        while not self._stopped.wait(FLUSH_INTERVAL_S):
            try:
                self.flush()
            except Exception:
                logger.exception("usage records could not be written")

    def _show(self) -> None:
        dropped, self._num_dropped = self._num_dropped, 0
        failures, self._num_failures = self._num_failures, 0
        self._observe(JournalState(self._head, len(self._waiting), dropped, failures))

    def _take_chain(self) -> int:
        """The lock that this process holds as long as it lives: two would break the chain."""
        path = self.directory / f".{self.replica}.lock"
        lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise StartError(
                f"usage.replica: another process writes the chain {self.replica!r} in "
                f"{self.directory}; give each replica a name of its own."
            ) from None
        return lock

    def _find_end(self) -> tuple[int, int, Head]:
        """Number and size of the file to go on with, and the head of the chain.

        A half line at the end, from a process that was killed, was never counted and is cut off.
        """
        files = find_chains(self.directory).get(self.replica, [])
        for path in reversed(files):
            line, size = find_last_line(path)
            if path == files[-1]:
                os.truncate(path, size)
                newest_size = size
            if line:
                return number_of(files[-1]), newest_size, self._read_head(path, line)
        return (number_of(files[-1]) if files else 1), 0, Head()

    def _read_head(self, path: Path, line: bytes) -> Head:
        try:
            return head_of(line)
        except ValueError:
            raise StartError(
                f"usage.directory: the last line of {path} is not a usage record; see "
                f"`python -m app usage verify`."
            ) from None

    def _open(self) -> int:
        path = file_of(self.directory, self.replica, self._number)
        file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        sync_directory(self.directory)
        return file

    def _rotate(self) -> None:
        full = self._file
        self._number += 1
        self._file, self._size = self._open(), 0
        os.close(full)


def sync_directory(directory: Path) -> None:
    """So that a new file's name survives a power cut, as its content does."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
