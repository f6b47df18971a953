"""The corpus over real HTTP against the real engine, which has to stay as well as it was."""

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.core.envelopes import MAX_ERROR_BYTES
from tests.abuse.attack import ATTACKS, Attack
from tests.abuse.leaks import leak_in
from tests.integration.gateway_process import GatewayProcess, environment
from tests.integration.socket_log.place import SOCKET_LOG, opened_by, watching


class Listener:
    """An address that attacks name; whoever connects to it is counted."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.num_connections = 0
        threading.Thread(target=self._count, daemon=True).start()

    @property
    def address(self) -> str:
        host, port = self._socket.getsockname()
        return f"{host}:{port}"

    def _count(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._socket.accept()[0].close()
                self.num_connections += 1

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()


OPENERS = (
    "import socket; socket.create_connection(({host!r}, {port}))",
    "import asyncio, uvloop; uvloop.run(asyncio.open_connection({host!r}, {port}))",
)


@pytest.mark.parametrize("opener", OPENERS)
def test_a_connection_that_is_opened_would_be_seen(
    listener: Listener, tmp_path: Path, opener: str
) -> None:
    host, port = listener.address.split(":")
    code = [sys.executable, "-c", opener.format(host=host, port=port)]
    subprocess.run(code, env=environment(**watching(tmp_path)), check=True, timeout=60)
    assert port in (tmp_path / SOCKET_LOG).read_text()


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_is_refused_and_harms_nothing(
    gateway: GatewayProcess, client: httpx.Client, listener: Listener, attack: Attack
) -> None:
    engines, opened = gateway.engine_pids(), opened_by(gateway)
    headers = [
        (name.encode(), value.encode("latin-1")) for name, value in attack.all_headers().items()
    ]
    connections = listener.num_connections
    content = attack.content(listener.address)
    try:
        answer = client.request(attack.method, attack.path, content=content, headers=headers)
    except httpx.WriteError:
        assert attack.status == 413  # it was cut off while we were still sending
        return
    assert answer.status_code == attack.status, answer.text
    assert len(answer.content) <= MAX_ERROR_BYTES
    assert not leak_in(answer.text)
    error = answer.json()["error"]
    assert error["message"]
    if attack.code:
        assert error["code"] == attack.code
    assert listener.num_connections == connections
    assert opened_by(gateway) == opened
    assert gateway.engine_pids() == engines
    assert client.get("/ready").status_code == 200
