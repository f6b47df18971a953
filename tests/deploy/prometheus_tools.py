"""promtool and prometheus: those on the machine, or else the distribution's, unpacked beside."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
UNPACKED = ROOT / ".cache" / "prometheus"


@cache
def find(name: str) -> str:
    """The path of the program. Nothing is installed: no service starts on the machine."""
    unpacked = UNPACKED / "usr" / "bin" / name
    if found := shutil.which(name):
        return found
    if not unpacked.exists():
        unpack()
    assert unpacked.exists(), f"{name} is neither on the PATH nor in Debian's prometheus package"
    return str(unpacked)


def unpack() -> None:
    UNPACKED.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        subprocess.run(["apt-get", "update", "-qq"], check=False)
    subprocess.run(["apt-get", "download", "-qq", "prometheus"], cwd=UNPACKED, check=True)
    (package,) = UNPACKED.glob("prometheus_*.deb")
    subprocess.run(["dpkg-deb", "--extract", str(package), str(UNPACKED)], check=True)


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [find("promtool"), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
