import subprocess
import sys
from pathlib import Path

import pytest

from app.bench.peers import PeerError, run_quietly
from app.bench.process_cpu import ProcessError, cpu_seconds
from app.bench.server_process import (
    ServerError,
    ServerPlan,
    ServerProcess,
    free_port,
    group_processes,
)

SERVE = """
import http.server, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"data": [{"id": "m"}]}')
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def plan(code: str, port: int) -> ServerPlan:
    return ServerPlan("test", [sys.executable, "-c", code, str(port)], port)


def test_a_server_is_waited_for_and_ended_with_its_children(tmp_path: Path) -> None:
    with ServerProcess(plan(SERVE, free_port()), tmp_path / "a" / "log") as server:
        assert server.wait_until_ready().name == "test"
        assert server.api_pids == (server.root_pid,)
        assert cpu_seconds(server.api_pids) > 0
        assert not server.has_ended(0.2)
    assert server.has_ended(1)
    with pytest.raises(ProcessError):
        cpu_seconds(server.api_pids)


def test_a_server_that_ends_at_once_is_told_with_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with (
        ServerProcess(plan("print('why')", free_port()), log) as server,
        pytest.raises(ServerError, match=str(log)),
    ):
        server.wait_until_ready()
    assert log.read_text() == "why\n"


def test_an_installation_that_fails_gives_its_last_line() -> None:
    code = "import sys; print('first\\nlast', file=sys.stderr); sys.exit(1)"
    with pytest.raises(PeerError, match="it cannot be installed: last"):
        run_quietly([sys.executable, "-c", code], "it")


RUN_UNTIL_ENDED = """
import sys, time
from pathlib import Path
from app.bench.running_servers import running_servers
from tests.unit.bench.test_server_process import SERVE, plan

with running_servers([plan(SERVE, int(sys.argv[1]))], "m", Path(sys.argv[2])) as servers:
    print(servers["test"][1].root_pid, flush=True)
    time.sleep(600)
"""


def test_servers_end_with_a_comparison_that_is_ended(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", RUN_UNTIL_ENDED, str(free_port()), str(tmp_path)]
    root = Path(__file__).parents[3]
    with subprocess.Popen(arguments, cwd=root, stdout=subprocess.PIPE, text=True) as comparison:
        assert comparison.stdout is not None
        server_pid = int(comparison.stdout.readline())
        assert group_processes(server_pid)
        comparison.terminate()
        assert comparison.wait(60) == 143
    assert not group_processes(server_pid)
