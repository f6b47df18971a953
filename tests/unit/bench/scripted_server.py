"""A chat server that answers from a script, for tests of what calls it."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "a-good-key"
USAGE = {"prompt_tokens": 9, "completion_tokens": 3}


class ScriptedServer(ThreadingHTTPServer):
    """`chunks` are the texts of every answer. `cut` ends streams without `[DONE]`."""

    daemon_threads = True

    def __init__(
        self, chunks: list[str], *, cut: bool, status: int, pause_s: float, port: int = 0
    ) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.chunks = chunks
        self.cut = cut
        self.status = status
        self.pause_s = pause_s
        self.in_flight = 0
        self.most_in_flight = 0
        self.num_connections = 0
        self.bodies: list[dict[str, Any]] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ScriptedServer

    def setup(self) -> None:
        super().setup()
        with self.server.lock:
            self.server.num_connections += 1

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.answer_json(200, {"data": [{"id": "scripted"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.bodies.append(body)
            self.server.in_flight += 1
            self.server.most_in_flight = max(self.server.most_in_flight, self.server.in_flight)
        self.answer(body)
        with self.server.lock:
            self.server.in_flight -= 1

    def answer(self, body: dict[str, Any]) -> None:
        if self.headers["Authorization"] != f"Bearer {KEY}":
            self.answer_json(401, {"error": {}})
        elif self.server.status != 200:
            self.answer_json(self.server.status, {"error": {}})
        elif body["stream"]:
            self.answer_stream()
        else:
            time.sleep(self.server.pause_s)
            message = {"content": "".join(self.server.chunks)}
            self.answer_json(200, {"choices": [{"message": message}], "usage": USAGE})

    def answer_json(self, status: int, content: dict[str, Any]) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def answer_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})
        for text in self.server.chunks:
            time.sleep(self.server.pause_s / len(self.server.chunks))
            self.event({"choices": [{"delta": {"content": text}}]})
        self.event({"choices": [], "usage": USAGE})
        if not self.server.cut:
            self.chunk(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def event(self, content: dict[str, Any]) -> None:
        self.chunk(b"data: %s\n\n" % json.dumps(content).encode())

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()


@contextmanager
def scripted_server(
    *chunks: str, cut: bool = False, status: int = 200, pause_s: float = 0.0
) -> Iterator[ScriptedServer]:
    server = ScriptedServer(list(chunks), cut=cut, status=status, pause_s=pause_s)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
