"""Two replicas behind HAProxy, restarted one after the other under load: no client notices."""

import contextlib
import os
import random
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx

from tests.debian import unpack
from tests.faults.faulty_gateway import chat, simulated, status_of
from tests.faults.waiting import wait_for
from tests.integration.gateway_process import (
    ROOT,
    SECRET,
    GatewayProcess,
    free_port,
    running_gateway,
)

PACKAGES = ("haproxy", "liblua5.3-0", "libopentracing-c-wrapper0", "libopentracing1")
NUM_CLIENTS = 12


def lasting_port() -> int:
    """Free, and outside the range from which the kernel takes ports for connections: the proxy's
    own would take a port that is free while its replica restarts."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


@dataclass
class Replica:
    """A place for a gateway: its ports stay when it is started anew."""

    folder: Path
    port: int = field(default_factory=lasting_port)
    management_port: int = field(default_factory=lasting_port)

    @contextlib.contextmanager
    def running(self) -> Iterator[GatewayProcess]:
        self.folder.mkdir(exist_ok=True)
        settings = (*simulated(step_ms=10), "server.drain_delay_s=2", "server.drain_timeout_s=60")
        ports = (self.port, self.management_port)
        with running_gateway(self.folder, *settings, ports=ports) as gateway:
            gateway.wait_ready()
            yield gateway


@contextlib.contextmanager
def running_proxy(first: Replica, second: Replica) -> Iterator[str]:
    """The shipped configuration; its URL, once both replicas are in use."""
    tree, port = unpack("haproxy", *PACKAGES), free_port()
    (libraries,) = {str(each.parent) for each in tree.rglob("liblua5.3.so.0")}
    variables = {
        "LD_LIBRARY_PATH": libraries,
        "LISTEN": f"127.0.0.1:{port}",
        "REPLICA_A": "127.0.0.1",
        "REPLICA_B": "127.0.0.1",
        "PORT_A": str(first.port),
        "PORT_B": str(second.port),
        "MANAGEMENT_PORT_A": str(first.management_port),
        "MANAGEMENT_PORT_B": str(second.management_port),
    }
    program = [str(tree / "usr/sbin/haproxy"), "-f", str(ROOT / "deploy" / "haproxy.cfg")]
    with subprocess.Popen(program, env=os.environ | variables) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(lambda: is_up(url), "the proxy does not answer")
            yield url
        finally:
            process.terminate()


def is_up(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{url}/ready").status_code == 200
    return False


@dataclass
class Load:
    """Clients that ask on and on, streamed and not; what was not answered in full."""

    url: str
    num_answered: int = 0
    failures: list[str] = field(default_factory=list)
    is_over: threading.Event = field(default_factory=threading.Event)

    def ask_on(self, *, stream: bool) -> None:
        headers = {"authorization": f"Bearer {SECRET}"}
        with httpx.Client(base_url=self.url, headers=headers, timeout=120) as client:
            while not self.is_over.is_set():
                self.ask(client, stream=stream)

    def ask(self, client: httpx.Client, *, stream: bool) -> None:
        body = chat(stream=stream, max_tokens=100)
        try:
            answer = client.post("/v1/chat/completions", json=body)
        except httpx.TransportError as error:
            self.failures.append(repr(error))
            return
        if answer.status_code == 200 and '"finish_reason":"length"' in answer.text:
            self.num_answered += 1
        else:
            self.failures.append(f"{answer.status_code} {answer.text[-300:]}")


def is_in_use(gateway: GatewayProcess) -> bool:
    return bool(status_of(gateway)["queue"]["in_hand"])


@contextlib.contextmanager
def load_on(url: str) -> Iterator[Load]:
    load = Load(url)
    clients = [
        threading.Thread(target=load.ask_on, kwargs={"stream": number % 2 == 0}, daemon=True)
        for number in range(NUM_CLIENTS)
    ]
    for client in clients:
        client.start()
    try:
        yield load
    finally:
        load.is_over.set()
        for client in clients:
            client.join(120)
    assert not any(client.is_alive() for client in clients), "a client hangs"


def test_a_rolling_restart_of_two_replicas_loses_nothing(tmp_path: Path) -> None:
    first, second = Replica(tmp_path / "a"), Replica(tmp_path / "b")
    with contextlib.ExitStack() as running:
        gateways = {each.port: running.enter_context(each.running()) for each in (first, second)}
        url = running.enter_context(running_proxy(first, second))
        with load_on(url) as load:
            wait_for(lambda: load.num_answered >= NUM_CLIENTS, "nothing is answered")
            for replica in (first, second):
                before = load.num_answered
                assert gateways[replica.port].stop() == 0
                gateways[replica.port] = running.enter_context(replica.running())
                wait_for(partial(is_in_use, gateways[replica.port]), "the proxy does not find it")
                assert load.num_answered > before
        assert load.failures == []
        for gateway in gateways.values():
            assert gateway.stop() == 0
