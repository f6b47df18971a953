"""The script of `helm test`, against a server that answers as the gateway does, or does not."""

import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.deploy.chart import CHART

KEY = "sk-w8a8-for-this-test"
ANSWERS = {
    "/health": {},
    "/ready": {},
    "/v1/models": {"data": [{"id": "bundled"}]},
    "/v1/chat/completions": {"choices": [{"message": {"content": "4"}}]},
}


class Handler(http.server.BaseHTTPRequestHandler):
    broken: str

    def do_GET(self) -> None:
        authorized = self.headers.get("Authorization") == f"Bearer {KEY}"
        if self.path == self.broken:
            self.answer(503, {})
        elif self.path.startswith("/v1") and not authorized and self.broken != "auth":
            self.answer(401, {"error": {"code": "invalid_api_key"}})
        else:
            self.answer(200, ANSWERS[self.path])

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert body["model"] == "bundled"
        self.do_GET()

    def answer(self, status: int, document: object) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(document).encode())

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def gateway(broken: str) -> Iterator[str]:
    handler = type("Broken", (Handler,), {"broken": broken})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def run_check(name: str, broken: str = "") -> int:
    with gateway(broken) as url:
        environment = {"API_URL": url, "MANAGEMENT_URL": url, "API_KEY": KEY}
        command = [sys.executable, str(CHART / "files" / "check.py"), name]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert KEY not in done.stdout + done.stderr
        return done.returncode


@pytest.mark.parametrize("name", ["readiness", "auth", "chat"])
def test_a_check_passes_on_a_gateway_that_works(name: str) -> None:
    assert run_check(name) == 0


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("readiness", "/ready"),
        ("readiness", "/health"),
        ("auth", "auth"),
        ("chat", "/v1/chat/completions"),
        ("chat", "/v1/models"),
    ],
)
def test_a_check_fails_on_what_it_is_for(name: str, broken: str) -> None:
    assert run_check(name, broken) == 1
