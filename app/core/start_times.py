"""Where the time of a start goes."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Field 22 of /proc/PID/stat, counted from the end of the command's name, in ticks since boot.
_START_FIELD = 19


class StartTimes:
    """Seconds by phase, in the order in which they ended. The first is `process`: from `exec` to
    where this was made, so interpreter, imports of our own, settings and ports."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {"process": seconds_since_exec()}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        begun = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - begun

    @property
    def total_s(self) -> float:
        return sum(self.seconds.values())


def seconds_since_exec() -> float:
    """Of this process, by the kernel's clock."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    started_s = int(fields[_START_FIELD]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_s
