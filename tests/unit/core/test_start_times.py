"""The parts of a start add up to the whole, counted from the kernel's own start of the process."""

import subprocess
import sys
import time
from pathlib import Path

from app.core.start_times import StartTimes

ROOT = Path(__file__).parents[3]
CODE = """
import time
time.sleep(0.3)
from app.core.start_times import StartTimes
times = StartTimes()
with times.phase("imports"):
    time.sleep(0.2)
print(*times.seconds, times.seconds["process"], times.seconds["imports"], times.total_s)
"""


def test_a_start_is_counted_from_exec_and_its_phases_add_up() -> None:
    begun = time.monotonic()
    command = [sys.executable, "-c", CODE]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    whole = time.monotonic() - begun
    *names, process, imports, total = ended.stdout.split()
    assert names == ["process", "imports"]
    assert float(process) + 0.02 >= 0.3  # the kernel counts in hundredths
    assert float(imports) >= 0.2
    assert float(process) + float(imports) <= float(total) + 1e-9 <= whole + 0.02


def test_a_phase_that_fails_is_not_counted() -> None:
    times = StartTimes()
    try:
        with times.phase("engine"):
            raise RuntimeError
    except RuntimeError:
        pass
    assert set(times.seconds) == {"process"}
