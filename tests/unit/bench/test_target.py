import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from app.bench.start_command import read_phases
from app.bench.target import Target, read_samples, read_status


@contextmanager
def gateway(texts: dict[str, bytes]) -> Iterator[Target]:
    """Answers each path with its text where the key is right."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            has_key = self.headers["Authorization"] == "Bearer sk-unit"
            self.send_response(200 if has_key else 401)
            self.end_headers()
            self.wfile.write(texts[self.path])

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Target("gateway", f"http://127.0.0.1:{server.server_port}", "sk-unit")
        finally:
            server.shutdown()
            thread.join()


def test_a_gateways_series_and_status_are_read_with_its_key() -> None:
    registry = CollectorRegistry()
    start = Gauge("gateway_start_seconds", "x", ["phase"], registry=registry)
    start.labels("imports").set(2.5)
    start.labels("engine").set(20)
    Gauge("vllm:num_requests_running", "x", registry=registry).set(3)
    status = {"queue": {"in_hand": 0, "unfinished": 1}}
    texts = {"/metrics": generate_latest(registry), "/admin/status": json.dumps(status).encode()}
    with gateway(texts) as target:
        values = {each.name: each.value for each in read_samples(target)}
        assert values["vllm:num_requests_running"] == 3
        assert read_phases(target) == {"imports": 2.5, "engine": 20}
        assert read_status(target) == status
