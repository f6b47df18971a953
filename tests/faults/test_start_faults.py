"""What is wrong before the service is there is said at once, in one sentence, with an exit code."""

import contextlib
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx

from tests.faults.fault_table import FaultTable
from tests.faults.waiting import wait_for
from tests.integration.gateway_process import ROOT, command, environment, free_port, write_keys


def serve(folder: Path, *assignments: str) -> list[str]:
    keys = write_keys(folder / "keys.yaml")
    given = (f"auth.keys_file={keys}", *assignments)
    words = [word for each in given for word in ("--set", each)]
    return command("serve", "--profile", "bundled", *words)


def start(folder: Path, *assignments: str) -> tuple[int, str, float]:
    """Exit code, the sentence, and seconds."""
    begun = time.monotonic()
    ended = subprocess.run(
        serve(folder, *assignments),
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    (sentence,) = ended.stderr.splitlines()
    return ended.returncode, sentence, time.monotonic() - begun


def test_a_port_that_is_taken_is_named(tmp_path: Path, table: FaultTable) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, sentence, over_s = start(tmp_path, f"server.port={port}")
    assert code == 4
    assert "server.port" in sentence
    assert str(port) in sentence
    table.add(
        "the port is taken",
        clients="none",
        service="exit 4 before anything is loaded; the sentence names setting and port",
        over_s=over_s,
    )


def test_a_model_directory_that_is_gone_is_named(tmp_path: Path, table: FaultTable) -> None:
    gone = tmp_path / "gone"
    code, sentence, over_s = start(tmp_path, f"model.path={gone}", "server.port=0")
    assert code == 2
    assert "model.path" in sentence
    table.add(
        "the model's directory is gone at the start",
        clients="none",
        service="exit 2 before anything is loaded; the sentence names the setting",
        over_s=over_s,
    )


def test_a_log_on_a_full_disk_changes_no_exit_code(tmp_path: Path, table: FaultTable) -> None:
    port = free_port()
    begun = time.monotonic()
    with (
        Path("/dev/full").open("wb") as full,
        subprocess.Popen(
            serve(tmp_path, f"server.port={port}"),
            cwd=ROOT,
            env=environment(),
            stdout=full,
            stderr=full,
        ) as process,
    ):
        wait_for(lambda: is_alive(port), "it does not listen")
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
    table.add(
        "disk full for the log from the start (`/dev/full`), then SIGTERM while loading",
        clients="none",
        lost="the log",
        service="listens, ends with 0",
        over_s=time.monotonic() - begun,
    )


def is_alive(port: int) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=60).status_code == 200
    return False
