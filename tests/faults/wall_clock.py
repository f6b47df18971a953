"""A wall clock of a server's own, which a test can set."""

import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("shifted_clock.c")


class WallClock:
    """Needs a C compiler, as vLLM does on a CPU."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self._library = folder / "shifted_clock.so"
        self._file.write_bytes(bytes(8))
        build = ["cc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(self._library)]
        subprocess.run([*build, str(SOURCE)], check=True)

    @property
    def environment(self) -> dict[str, str]:
        """Of the processes that go by it."""
        return {"LD_PRELOAD": str(self._library), "SHIFTED_CLOCK": str(self._file)}

    def shift(self, seconds: int) -> None:
        """So far from the true time, from now on."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("=q", seconds))
