"""A short soak on the real engine; `make soak` is the long one."""

import subprocess

from tests.integration.gateway_process import ROOT, command, environment


def test_a_soak_leaks_nothing_and_accounts_for_every_request() -> None:
    ended = subprocess.run(
        command("soak", "--minutes", "1.5", "--set", "engine.enforce_eager=true"),
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=1700,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
