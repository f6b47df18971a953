"""Clients that misbehave and descriptors that run out, against the HTTP side in its own process."""

import contextlib
import json
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.fault_table import FaultTable
from tests.faults.stand_in import Server, running_server
from tests.faults.waiting import wait_for
from tests.integration.gateway_process import SECRET

MIB = 1 << 20
NUM_READERS = 20
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER of no time: close sends a reset


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running_server(tmp_path) as running:
        yield running


def request_head(body: bytes, length: int | None = None) -> bytes:
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        + f"authorization: Bearer {SECRET}\r\n".encode()
        + f"content-length: {len(body) if length is None else length}\r\n\r\n".encode()
        + body
    )


def as_body(**fields: Any) -> bytes:
    return json.dumps({"model": "x", **fields}).encode()


def test_two_thousand_idle_connections_keep_nobody_out(server: Server, table: FaultTable) -> None:
    before = server.num_descriptors
    with contextlib.ExitStack() as idle:
        for _ in range(2000):
            idle.enter_context(server.connect())
        begun = time.monotonic()
        assert server.ask() == 200
        over_s = time.monotonic() - begun
        assert server.num_descriptors >= 2000
    wait_for(lambda: server.num_descriptors <= before + 2, "descriptors stay open")
    table.add(
        "2,000 connections that say nothing",
        clients="others are answered as before",
        service="keeps serving; every descriptor comes back",
        over_s=over_s,
    )


def test_resets_in_the_middle_of_a_body_leave_nothing_behind(
    server: Server, table: FaultTable
) -> None:
    before = server.num_descriptors
    begun = time.monotonic()
    for _ in range(300):
        with server.connect() as client:
            client.sendall(request_head(b'{"model":', length=1000))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    assert server.ask() == 200
    wait_for(lambda: server.num_descriptors <= before + 2, "descriptors stay open")
    wait_for(lambda: server.num_in_flight() == 0, "requests stay in flight")
    table.add(
        "300 clients reset their connection in the middle of a body",
        clients="are gone; others are answered",
        service="forgets them; descriptors and counts are as before",
        over_s=time.monotonic() - begun,
    )


def test_a_reader_that_never_reads_costs_no_memory_and_is_forgotten_when_it_leaves(
    server: Server, table: FaultTable
) -> None:
    assert server.ask() == 200
    before = server.rss_bytes
    with contextlib.ExitStack() as readers:
        for _ in range(NUM_READERS):
            reader = readers.enter_context(server.connect())
            reader.sendall(request_head(as_body(stream=True)))
        wait_for(lambda: server.num_in_flight() == NUM_READERS, "the streams did not start")
        time.sleep(3)  # unbounded, these streams would fill gigabytes
        assert server.rss_bytes - before < 64 * MIB
        assert server.ask() == 200
        begun = time.monotonic()
    wait_for(lambda: server.num_in_flight() == 0, "the streams go on for nobody")
    table.add(
        f"{NUM_READERS} endless streams whose readers never read",
        clients="wait, for `server.send_timeout_s` at most; others are answered",
        service="stops producing for them: less than 64 MiB; forgets them when they leave",
        over_s=time.monotonic() - begun,
    )


def test_running_out_of_descriptors_passes(tmp_path: Path, table: FaultTable) -> None:
    with running_server(tmp_path, most_descriptors=128) as server:
        with contextlib.ExitStack() as greedy:
            for _ in range(300):
                greedy.enter_context(server.connect())
            wait_for(lambda: server.num_descriptors >= 127, "there are descriptors left")
            begun = time.monotonic()
        wait_for(server.is_serving, "it does not serve again")
    table.add(
        "more connections than file descriptors (`ulimit -n`)",
        clients="new ones wait for a free descriptor",
        service="stays up and serves again when some are free",
        over_s=time.monotonic() - begun,
    )
