import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from app.bench import server_process
from app.core.errors import AppError
from app.evaluate.server import EngineChoice, serving

CHOICE = EngineChoice(("--enforce-eager",), 20, "llama3_json")

# A server that answers everything, and a child that ignores SIGTERM, as a hung engine would.
SERVER = """
import http.server, pathlib, signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import signal, time;"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"])
pathlib.Path(sys.argv[2]).write_text(str(child.pid))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"data": [{"id": "evaluated"}]}')
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def test_both_models_get_the_same_engine_on_this_machine_only() -> None:
    command = CHOICE.command(Path("models/w8a8"), 4321)
    text = " ".join(command)
    assert "--model models/w8a8" in text
    assert "--host 127.0.0.1 --port 4321" in text
    assert "--max-logprobs 20" in text
    assert "--tool-call-parser llama3_json" in text
    assert command[-1] == "--enforce-eager"
    assert "--tool-call-parser" not in EngineChoice((), -1, None).command(Path("m"), 1)


def test_the_key_is_not_on_the_command_line() -> None:
    assert not [word for word in CHOICE.command(Path("m"), 1) if "key" in word]


def test_a_server_that_ends_before_it_is_ready_is_told_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such kernel')"]
    monkeypatch.setattr(EngineChoice, "command", lambda *_: command)
    with pytest.raises(AppError, match="no such kernel"), serving(tmp_path, CHOICE):
        pass


@pytest.mark.parametrize("is_told_to_end", [False, True])
def test_the_server_is_ended_with_all_its_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_told_to_end: bool
) -> None:
    note = tmp_path / "pid"

    def command(self: EngineChoice, model: Path, port: int) -> list[str]:
        return [sys.executable, "-c", SERVER, str(port), str(note)]

    monkeypatch.setattr(EngineChoice, "command", command)
    monkeypatch.setattr(server_process, "STOP_S", 1)
    before = signal.getsignal(signal.SIGTERM)
    ends = pytest.raises(SystemExit) if is_told_to_end else contextlib.nullcontext()
    with ends, serving(tmp_path, CHOICE) as endpoint:
        assert httpx.get(f"{endpoint.url}/health").status_code == 200
        child = int(note.read_text())
        assert is_alive(child)
        if is_told_to_end:
            assert signal.getsignal(signal.SIGTERM) is not before
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
    deadline = time.monotonic() + 30
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(child)


def is_alive(pid: int) -> bool:
    """A process that nobody has waited for yet (a zombie) is not."""
    listing = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return Path(f"/proc/{pid}").exists() and not listing.stdout.startswith("Z")
