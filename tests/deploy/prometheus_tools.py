"""promtool and prometheus: those on the machine, or else the distribution's, unpacked beside."""

import subprocess
from functools import cache
from pathlib import Path

from tests.debian import find_program

ROOT = Path(__file__).parents[2]


@cache
def find(name: str) -> str:
    return find_program(name, "prometheus")


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [find("promtool"), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
