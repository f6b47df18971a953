"""CPU time of processes, as Linux accounts for it."""

import os
from collections.abc import Iterable
from pathlib import Path

from app.core.errors import AppError

PROC = Path("/proc")


class ProcessError(AppError):
    """A process whose CPU time cannot be read."""


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of these processes, all threads, without their children."""
    return sum(process_cpu_s(pid) for pid in pids)


def resident_bytes(pids: Iterable[int]) -> int:
    """Memory that the processes hold, pages that they share counted for each."""
    pages = sum(int((PROC / str(pid) / "statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE")


def process_cpu_s(pid: int) -> float:
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except OSError as error:
        raise ProcessError(f"The process {pid} is not there to be measured.") from error
    # The command's name is in parentheses and may contain any character, spaces included.
    user, system = stat.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
