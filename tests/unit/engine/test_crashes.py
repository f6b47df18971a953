"""A process that crashes is gone at once, and has said where it was."""

import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CRASHING = """
    import os, signal
    {before}
    from app.engine.crashes import end_at_once_on_crash

    def crash():
        os.kill(os.getpid(), signal.SIGSEGV)

    end_at_once_on_crash()
    import xgrammar
    crash()
"""
BEFORE = {
    "the library is loaded later": "pass",
    "the library is loaded already": "import xgrammar",
    "Python's handler is set": "import faulthandler; faulthandler.enable(); import xgrammar",
}


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE.keys())
def test_a_crash_ends_the_process_with_pythons_stack_alone(before: str) -> None:
    code = textwrap.dedent(CRASHING.format(before=before))
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True, timeout=300
    )
    assert ended.returncode == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in ended.stderr
    assert "in crash" in ended.stderr
    assert "Segfault encountered" not in ended.stderr, "the library's own handler was called"


CRASHING_TRIAL = """
    import os, signal
    from types import SimpleNamespace
    from app.core.grammar_trial import Trial
    from app.engine.crashes import end_at_once_on_crash
    from app.engine.grammar_host import Host

    class Crashing(Host):
        def __init__(self):
            self.job, self.running = SimpleNamespace(deadline_s=30), {}

        def judge(self, trial):
            os.kill(os.getpid(), signal.SIGSEGV)

    end_at_once_on_crash()
    host = Crashing()
    host.start(Trial(1, []))
    while host.running:
        host.reap()
"""


def test_a_trial_that_crashes_is_a_verdict_and_no_alarm() -> None:
    """What a client can bring about says nothing in the service's log."""
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CRASHING_TRIAL)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(ended.stdout)["signal"] == signal.SIGSEGV
    assert "Fatal" not in ended.stderr
