"""Processes of the engine end when they are told to, and with the gateway."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil

from app.engine.processes import kill_children

ROOT = Path(__file__).parents[3]
PARENT = """
    import multiprocessing, os, time
    from app.engine.processes import end_with

    if __name__ == "__main__":
        child = multiprocessing.get_context("spawn").Process(target=end_with, args=(os.getpid(),))
        child.start()
        print(child.pid, flush=True)
        time.sleep(60)
"""


def test_a_child_ends_when_its_parent_was_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(textwrap.dedent(PARENT))
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        time.sleep(1.5)  # longer than it takes to look once
        assert child.is_running()
        parent.kill()
        parent.wait(10)
        _, alive = psutil.wait_procs([child], timeout=60)
        assert not alive


def spawn_a_stopped_child() -> None:
    grandchild = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    grandchild.start()
    os.kill(os.getpid(), signal.SIGSTOP)


def test_stopped_children_and_their_children_are_killed() -> None:
    child = multiprocessing.get_context("spawn").Process(target=spawn_a_stopped_child)
    child.start()
    process = psutil.Process(child.pid)
    deadline = time.monotonic() + 60
    while process.status() != psutil.STATUS_STOPPED and time.monotonic() < deadline:
        time.sleep(0.05)
    family = [*process.children(recursive=True), process]
    assert len(family) >= 2
    kill_children()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive
