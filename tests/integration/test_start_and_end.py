"""How the command starts, refuses to start, and ends."""

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.faulty_gateway import chain_of, status_of
from tests.faults.waiting import wait_for
from tests.integration.gateway_process import (
    ROOT,
    GatewayProcess,
    command,
    environment,
    free_port,
    running_gateway,
    write_keys,
)

CHAT: dict[str, Any] = {
    "model": "bundled",
    "messages": [{"role": "user", "content": "What is 12 + 5?"}],
    "max_tokens": 4000,
    "ignore_eos": True,
}


def serve(folder: Path, *words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    keys = write_keys(folder / "keys.yaml")
    return subprocess.run(
        command(
            "serve",
            "--set",
            f"auth.keys_file={keys}",
            "--set",
            f"server.port={free_port()}",
            *words,
        ),
        cwd=ROOT,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("words", "variables", "said"),
    [
        (["--set", "server.prot=1"], {}, "server.prot"),
        ([], {"PORT": "many"}, "server.port"),
        ([], {"GPU_MEM_UTIL": "1.5"}, "engine.gpu_memory_utilization"),
        ([], {"GATEWAY_SERVER_PROT": "1"}, "GATEWAY_SERVER_PROT"),
        ([], {"EXTRA_ARGS": "--max-model-len 100"}, "engine.max_model_len"),
        ([], {"EXTRA_ARGS": "--worker-extension-cls x.Y"}, "--worker-extension-cls"),
        (["--profile", "nobody"], {}, "profile 'nobody'"),
        (["--profile", "none"], {"MODEL_DIR": "/nowhere/at/all"}, "model.path"),
        (["--set", "auth.keys_file=/nowhere/keys.yaml"], {}, "python -m app keys create"),
        (["--set", "server.tls_key=/nowhere/key.pem"], {}, "server.tls_certificate"),
        (["--profile", "bundled"], {"MODEL_DIR": "models/bundled/bf16"}, "model.allow_unquantized"),
    ],
)
def test_what_cannot_work_stops_the_start_with_one_sentence(
    tmp_path: Path, words: list[str], variables: dict[str, str], said: str
) -> None:
    ended = serve(tmp_path, *words, **variables)
    assert ended.returncode not in (0, 1), ended.stderr
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: ")
    assert said in line


def test_a_port_that_is_taken_is_said_before_anything_is_loaded(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = serve(tmp_path, "--profile", "bundled", "--set", f"server.port={port}")
    assert ended.returncode == 4
    assert f"port {port}" in ended.stderr


def make_certificate(folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


def test_tls_is_served_and_sigterm_while_loading_ends_with_0(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    settings = (f"server.tls_certificate={certificate}", f"server.tls_key={key}")
    with running_gateway(tmp_path, *settings) as gateway:
        trusted = ssl.create_default_context(cafile=str(certificate))

        def is_alive() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return httpx.get(f"{gateway.url}/health", verify=trusted).status_code == 200
            return False

        wait_for(is_alive, "it does not listen")
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(120) == 0


class Clients:
    """Requests in flight, each in its thread; what became of each of them."""

    def __init__(self, gateway: GatewayProcess, bodies: list[tuple[str, dict[str, Any]]]) -> None:
        self.gateway = gateway
        self.answers: list[tuple[str, int, str]] = []
        self.threads: list[threading.Thread] = []
        self.add(bodies)

    def add(self, bodies: list[tuple[str, dict[str, Any]]]) -> None:
        threads = [threading.Thread(target=self.ask, args=each) for each in bodies]
        for thread in threads:
            thread.start()
        self.threads += threads

    def ask(self, path: str, body: dict[str, Any]) -> None:
        try:
            with self.gateway.client(timeout=60) as client:
                answer = client.post(path, json=body)
            self.answers.append((path, answer.status_code, answer.text))
        except httpx.TransportError as error:
            self.answers.append((path, 0, repr(error)))

    def wait_all(self) -> list[tuple[str, int, str]]:
        for thread in self.threads:
            thread.join(120)
        assert not any(thread.is_alive() for thread in self.threads), "a client hangs"
        return self.answers


# As many as may run at the same time, so that what comes after them waits in the engine's queue.
RUNNING: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", CHAT | {"stream": True}),
    (
        "/v1/completions",
        {"model": "bundled", "prompt": "hi", "max_tokens": 4000, "ignore_eos": True},
    ),
    (
        "/v1/responses",
        {"model": "bundled", "input": "hi", "max_output_tokens": 4000}
        | {"stream": True, "ignore_eos": True},
    ),
]
SHORT = 500  # tokens of an answer that ends before those
GENERATED = "vllm:generation_tokens_total{"
MESSAGE = {"model": "bundled", "messages": CHAT["messages"], "max_tokens": 100}
WAITING: list[tuple[str, dict[str, Any]]] = [
    ("/v1/messages", MESSAGE),
    ("/v1/messages", MESSAGE | {"stream": True}),
]


def start_clients(gateway: GatewayProcess, running: list[tuple[str, dict[str, Any]]]) -> "Clients":
    clients = Clients(gateway, running)
    wait_until_in_hand(gateway, len(running))
    clients.add(WAITING)
    wait_until_in_hand(gateway, len(running) + len(WAITING))
    return clients


def assert_ended_with_an_error(answers: list[tuple[str, int, str]]) -> None:
    """None was cut off without a word: a status, or an error event as a stream's last."""
    for path, status, text in answers:
        assert status in (200, 500, 503), (path, status, text[-300:])
        last = text.replace("data: [DONE]", "").strip().rpartition("\n\n")[2]
        assert '"error"' in last, (path, status, text[-300:])


def wait_until_in_hand(gateway: GatewayProcess, count: int) -> None:
    wait_for(lambda: status_of(gateway)["queue"]["in_hand"] >= count, "the requests did not start")


def test_a_killed_engine_ends_the_process_and_every_client_is_told(tmp_path: Path) -> None:
    with running_gateway(tmp_path, f"engine.max_num_seqs={len(RUNNING)}") as gateway:
        gateway.wait_ready()
        clients = start_clients(gateway, RUNNING)
        (engine,) = gateway.engine_pids()
        os.kill(engine, signal.SIGKILL)
        killed = time.monotonic()
        healthy_for = 0.0
        while gateway.process.poll() is None and time.monotonic() - killed < 10:
            try:
                status = httpx.get(f"{gateway.url}/health", timeout=2).status_code
            except httpx.TransportError:
                break
            if status == 200:
                healthy_for = time.monotonic() - killed
            time.sleep(0.05)
        assert healthy_for < 10
        assert gateway.process.wait(60) not in (0, None)
        answers = clients.wait_all()
        assert len(answers) == len(RUNNING + WAITING)
        assert_ended_with_an_error(answers)


def test_sigterm_lets_a_short_request_finish_and_tells_a_long_one(tmp_path: Path) -> None:
    usage = tmp_path / "usage"
    seqs = f"engine.max_num_seqs={len(RUNNING)}"
    settings = ("server.drain_timeout_s=4", seqs, f"usage.directory={usage}")
    short = ("/v1/chat/completions", CHAT | {"max_tokens": SHORT, "stream": True})
    with running_gateway(tmp_path, *settings) as gateway:
        gateway.wait_ready()
        clients = start_clients(gateway, [short, *RUNNING[1:]])
        # So near to its end that a slow machine too comes to that while the service drains.
        near = len(RUNNING) * SHORT * 4 // 5
        wait_for(lambda: num_generated(gateway) > near, "nothing is generated")
        gateway.process.send_signal(signal.SIGTERM)
        with httpx.Client(base_url=gateway.management_url, timeout=60) as probe:
            wait_for(lambda: probe.get("/ready").status_code == 503, "it stays ready")
            assert probe.get("/health").status_code == 200
        with gateway.client() as late:
            refused = late.post("/v1/chat/completions", json=CHAT)
            assert refused.status_code == 503
            assert refused.headers["connection"] == "close"
            assert int(refused.headers["retry-after"]) > 0
        assert gateway.process.wait(120) == 0
        answers = clients.wait_all()
        finished = [each for each in answers if is_whole(each[2])]
        assert any('"finish_reason":"length"' in text for _, _, text in finished)
        cut_off = [each for each in answers if each not in finished]
        assert len(cut_off) >= len(RUNNING) - 1
        assert_ended_with_an_error(cut_off)
    records = chain_of(usage)  # whatever the engine has begun is in it, whole or cut off
    assert {record["route"] for record in records} >= {path for path, _ in RUNNING}
    assert len({record["id"] for record in records}) == len(records) >= len(RUNNING)


def num_generated(gateway: GatewayProcess) -> float:
    """Tokens of all requests together, since the start."""
    with gateway.client() as client:
        lines = client.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(GENERATED))


def is_whole(text: str) -> bool:
    """An answer that came to its own end: its length, or the end of the model's turn."""
    return '"error"' not in text and any(
        mark in text for mark in ('"finish_reason":"length"', '"end_turn"')
    )
