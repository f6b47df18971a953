"""The gate of `quality.min_recovery`, as the command shuts it: before anything is loaded."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from app.core.checkpoint import digest_checkpoint
from app.core.errors import CheckpointError, StartError
from app.core.quality import FILE, VERSION
from tests.integration.gateway_process import ROOT, command, environment, write_keys

CHECKPOINT = ROOT / "models" / "bundled" / "w8a8"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    unproved = shutil.ignore_patterns("quality.*")
    return Path(shutil.copytree(CHECKPOINT, tmp_path / "w8a8", ignore=unproved))


def write_report(checkpoint: Path, percent: float) -> None:
    report = {
        "version": VERSION,
        "candidate": {"digest": digest_checkpoint(checkpoint)},
        "recovery": {"percent": percent, "interval": [percent - 1, percent + 1]},
    }
    (checkpoint / FILE).write_text(json.dumps(report))


def serve(checkpoint: Path) -> "subprocess.CompletedProcess[str]":
    settings = (
        f"model.path={checkpoint}",
        "quality.min_recovery=99",
        "server.port=0",
        f"auth.keys_file={write_keys(checkpoint.parent / 'keys.yaml')}",
    )
    words = [word for setting in settings for word in ("--set", setting)]
    return subprocess.run(
        command("serve", "--profile", "bundled", *words),
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )


def assert_refused(checkpoint: Path, reason: str, exit_code: int = StartError.exit_code) -> None:
    finished = serve(checkpoint)
    assert finished.returncode == exit_code, finished.stderr
    assert reason in finished.stderr
    assert "Traceback" not in finished.stderr


def test_a_checkpoint_without_a_report_is_not_served(checkpoint: Path) -> None:
    assert_refused(checkpoint, "has no quality.json")


def test_a_checkpoint_that_recovers_too_little_is_not_served(checkpoint: Path) -> None:
    write_report(checkpoint, 98.0)
    assert_refused(checkpoint, "less than quality.min_recovery, 99 %")


def test_a_checkpoint_that_changed_after_its_report_is_not_served(checkpoint: Path) -> None:
    write_report(checkpoint, 100.0)
    shard = checkpoint / "model.safetensors"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    assert_refused(checkpoint, "belongs to another checkpoint")


def test_a_truncated_checkpoint_is_not_served_whatever_its_report_says(checkpoint: Path) -> None:
    shard = checkpoint / "model.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1000])
    write_report(checkpoint, 100.0)
    assert_refused(checkpoint, "model.safetensors is truncated", CheckpointError.exit_code)
