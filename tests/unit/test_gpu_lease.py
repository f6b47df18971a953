"""deploy/gpu/lease.sh, with a Python that only notes what it is asked: the order, and the time."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "gpu" / "lease.sh"


def run(part: str, folder: Path, body: str = "exit 0", **settings: str) -> tuple[int, list[str]]:
    """The exit code, and the commands that the script ran, in order."""
    python = folder / "python"
    python.write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\n{body}\n')
    python.chmod(0o755)
    environment = {**os.environ, "PY": str(python), "OUT": str(folder / "out"), **settings}
    ended = subprocess.run(
        ["bash", str(SCRIPT), part], env=environment, capture_output=True, timeout=60, check=False
    )
    asked = folder / "asked"
    return ended.returncode, asked.read_text().splitlines() if asked.exists() else []


def test_int8_and_bf16_come_first_after_a_short_check_of_the_kernel(tmp_path: Path) -> None:
    status, asked = run("1", tmp_path)
    assert status == 0
    assert asked[0].startswith("-m app check-int8")
    assert asked[1].startswith("-m app bench-gpu")
    assert "--modes int8,bf16" in asked[1]
    assert len(asked) == 2


def test_the_rest_comes_in_the_third_part(tmp_path: Path) -> None:
    _, asked = run("3", tmp_path)
    assert [line.split()[2] for line in asked] == [
        "check-int8",
        "bench-memory",
        "score",
        "bench-gpu",
    ]


@pytest.mark.parametrize("part", ["1", "2", "3"])
def test_every_option_is_one_that_the_command_has(part: str, tmp_path: Path) -> None:
    import argparse
    import importlib
    import shlex

    from app.__main__ import COMMANDS

    for line in run(part, tmp_path)[1]:
        _, _, name, *options = shlex.split(line)
        parser = argparse.ArgumentParser()
        importlib.import_module(COMMANDS[name][0]).add_arguments(parser)
        parser.parse_args(options)


def test_a_part_ends_in_time_and_says_what_it_left_out(tmp_path: Path) -> None:
    """With 21 seconds for a part, the first step may take one, and no time is left for a second."""
    status, asked = run("3", tmp_path, body="sleep 2", PART_S="21")
    assert status == 1
    assert len(asked) == 1


def test_a_step_that_fails_does_not_stop_the_next_one(tmp_path: Path) -> None:
    status, asked = run("3", tmp_path, body="exit 1")
    assert (status, len(asked)) == (1, 4)


def test_without_a_part_it_says_what_there_is(tmp_path: Path) -> None:
    status, asked = run("", tmp_path)
    assert (status, asked) == (2, [])
