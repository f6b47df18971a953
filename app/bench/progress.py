"""One line that says how far a run is."""

import time
from typing import TextIO

WIDTH = 30
PERIOD_S = 0.1


class Progress:
    """Redraws a bar on a terminal at most ten times a second; elsewhere prints the last state."""

    def __init__(self, label: str, total: int, out: TextIO) -> None:
        self.label = label
        self.total = total
        self.done = 0
        self.failed = 0
        self._out = out
        self._live = out.isatty()
        self._started_s = time.monotonic()
        self._drawn_s = 0.0

    def advance(self, *, failed: bool) -> None:
        self.done += 1
        self.failed += failed
        now = time.monotonic()
        if self._live and now - self._drawn_s >= PERIOD_S:
            self._drawn_s = now
            self._out.write(f"\r{self.line()}")
            self._out.flush()

    def finish(self) -> None:
        self._out.write(f"\r{self.line()}\n" if self._live else f"{self.line()}\n")
        self._out.flush()

    def line(self) -> str:
        filled = WIDTH * self.done // self.total if self.total else WIDTH
        elapsed_s = time.monotonic() - self._started_s
        failures = f", {self.failed} failed" if self.failed else ""
        bar = "#" * filled + "-" * (WIDTH - filled)
        return f"{self.label} [{bar}] {self.done}/{self.total} {elapsed_s:.1f} s{failures}"
