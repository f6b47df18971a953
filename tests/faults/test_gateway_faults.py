"""Faults that a gateway outlives, one after the other in one process: crowds, clients that do not
read, its own suspension, a full disk, a clock that jumps, a model whose files go away."""

import http.client
import json
import os
import resource
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from tests.faults.fault_table import FaultTable
from tests.faults.faulty_gateway import (
    Clients,
    chain_of,
    chat,
    faulty_gateway,
    health_of,
    is_serving,
    simulated,
    status_of,
)
from tests.faults.waiting import wait_for
from tests.faults.wall_clock import WallClock
from tests.integration.gateway_process import ROOT, SECRET, GatewayProcess

MIB = 1 << 20
NUM_SEQS = 16
SEND_TIMEOUT_S = 5
STOPPED_S = 15
PATIENCE_S = 12  # `server.hung_after_s`: far more than a busy machine stands still
DAY_S = 86_400


@dataclass
class Sturdy:
    """A gateway, and the files that the faults are about. `marks`: lengths of answers that nothing
    else asks for, each once."""

    gateway: GatewayProcess
    model: Path
    usage: Path
    clock: WallClock
    marks: Iterator[int] = field(default_factory=lambda: count(31))


@pytest.fixture(scope="module")
def sturdy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sturdy]:
    folder = tmp_path_factory.mktemp("sturdy")
    model, usage = folder / "model", folder / "usage"
    shutil.copytree(ROOT / "models" / "bundled" / "w8a8", model)
    clock = WallClock(folder)
    settings = (
        *simulated(step_ms=2),
        f"model.path={model}",
        "model.served_name=bundled",
        f"usage.directory={usage}",
        f"engine.max_num_seqs={NUM_SEQS}",
        "server.ready_when_saturated=false",
        f"server.send_timeout_s={SEND_TIMEOUT_S}",
        "queue.max_wait_s=120",
        f"server.hung_after_s={PATIENCE_S}",
        "tracing.otlp_endpoint=http://127.0.0.1:1",  # where nobody listens
    )
    with faulty_gateway(folder, *settings, variables=clock.environment) as gateway:
        yield Sturdy(gateway, model, usage, clock)
        assert gateway.stop() == 0


def test_a_full_engine_stays_alive_says_so_and_answers_everybody(
    sturdy: Sturdy, table: FaultTable
) -> None:
    gateway = sturdy.gateway
    begun = time.monotonic()
    clients = Clients(gateway).send(*[chat(max_tokens=400, stream=True)] * (8 * NUM_SEQS))
    wait_for(lambda: status_of(gateway)["state"] == "saturated", "never saturated")
    with gateway.client() as client:
        assert client.get("/ready").status_code == 503
        assert client.get("/ready").json()["state"] == "saturated"
    (engine,) = gateway.engine_pids()
    os.kill(engine, signal.SIGSTOP)  # a step that takes half as long as one may
    wait_for(lambda: silence_of(gateway) >= PATIENCE_S / 2, "it is not silent")
    os.kill(engine, signal.SIGCONT)
    while clients.are_waiting:
        assert health_of(gateway) == 200
        time.sleep(0.1)
    over_s = time.monotonic() - begun
    assert [answer for answer in clients.wait_all() if not answer.is_whole] == []
    wait_for(lambda: status_of(gateway)["state"] == "ready", "still saturated")
    table.add(
        f"8 times more requests than the engine runs; a step of {PATIENCE_S // 2} s",
        clients="wait, and get their whole answers",
        service="`/health` 200, `/ready` 503 `saturated` (as configured)",
        over_s=over_s,
    )


def test_a_collector_of_traces_that_is_down_delays_nobody(
    sturdy: Sturdy, table: FaultTable
) -> None:
    begun = time.monotonic()
    answers = Clients(sturdy.gateway).send(*[chat(max_tokens=5)] * 20).wait_all()
    assert all(answer.is_whole for answer in answers)
    assert health_of(sturdy.gateway) == 200
    table.add(
        "the collector of traces is down",
        clients="20 requests, all answered",
        lost="the spans",
        service="goes on",
        over_s=time.monotonic() - begun,
    )


def test_a_gateway_that_was_stopped_and_goes_on_has_lost_nothing(
    sturdy: Sturdy, table: FaultTable
) -> None:
    gateway = sturdy.gateway
    clients = Clients(gateway).send(*[chat(max_tokens=1500, stream=True)] * 4).wait_running()
    gateway.process.send_signal(signal.SIGSTOP)
    time.sleep(STOPPED_S)
    gateway.process.send_signal(signal.SIGCONT)
    begun = time.monotonic()
    assert is_serving(gateway)
    over_s = time.monotonic() - begun
    assert all(answer.is_whole for answer in clients.wait_all())
    assert health_of(gateway) == 200
    table.add(
        f"gateway: SIGSTOP for {STOPPED_S} s, then SIGCONT",
        clients="wait, and get their whole answers",
        service="the engine is not blamed for the gap",
        over_s=over_s,
    )


def never_reading(gateway: GatewayProcess, num_choices: int) -> http.client.HTTPConnection:
    """A stream that is asked for, over a connection with next to no room for it."""
    address = urlsplit(gateway.url)
    connection = http.client.HTTPConnection(address.netloc)
    connection.sock = socket.socket()
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.sock.connect((address.hostname, address.port))
    headers = {"authorization": f"Bearer {SECRET}", "content-type": "application/json"}
    body = chat(stream=True, max_tokens=3000, n=num_choices)
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    return connection


def test_clients_that_never_read_cost_little_memory_and_are_given_up(
    sturdy: Sturdy, table: FaultTable
) -> None:
    gateway = sturdy.gateway
    process = psutil.Process(gateway.process.pid)
    before = process.memory_info().rss
    given_up = num_given_up(gateway)
    begun = time.monotonic()
    readers = [never_reading(gateway, num_choices) for num_choices in (1, 1, 1, 1, 8, 8, 8, 8)]
    wait_for(lambda: status_of(gateway)["queue"]["in_hand"] == len(readers), "not begun")
    most = before
    while status_of(gateway)["queue"]["in_hand"]:
        assert time.monotonic() - begun < 100, "they hold their places for ever"
        assert is_serving(gateway)
        most = max(most, process.memory_info().rss)
        time.sleep(0.2)
    over_s = time.monotonic() - begun
    assert most - before < 64 * MIB
    # The long ones; the others fit into the kernel.
    wait_for(lambda: num_given_up(gateway) - given_up >= 4, "nobody is given up")
    for reader in readers:
        reader.close()
    table.add(
        f"8 streams whose readers never read (`send_timeout_s` {SEND_TIMEOUT_S})",
        clients="are cut off; others are answered",
        lost="their answers",
        service="holds less than 64 MiB for them, gives their places back",
        over_s=over_s,
    )


def num_given_up(gateway: GatewayProcess) -> int:
    return sum(line.get("status") == 499 for line in gateway.log())


def num_finished(gateway: GatewayProcess) -> int:
    """Requests as `is_serving` sends them."""
    return sum(line.get("completion_tokens") == 2 for line in gateway.log())


def test_a_clock_that_jumps_disturbs_nobody(sturdy: Sturdy, table: FaultTable) -> None:
    gateway = sturdy.gateway
    clients = Clients(gateway).send(*[chat(max_tokens=3000, stream=True)] * 4).wait_running()
    begun = time.monotonic()
    for jump_s in (DAY_S, -DAY_S, 0):
        num_done = num_finished(gateway)
        sturdy.clock.shift(jump_s)
        time.sleep(2)  # a heartbeat, and more
        assert health_of(gateway) == 200
        assert is_serving(gateway)
        # A request is recorded when its answer is out; the clock must not go on before.
        wait_for(lambda: num_finished(gateway) > num_done, "not logged")  # noqa: B023 (called now)
    over_s = time.monotonic() - begun
    assert all(answer.is_whole for answer in clients.wait_all())
    days = {record["time"][:10] for record in records_of(sturdy)}
    assert len(days) >= 3, "the clock did not jump"
    table.add(
        "the clock jumps a day ahead, two back, and home (preloaded `clock_gettime`)",
        clients="get their whole answers",
        service="goes on; times in records and keys' expiry follow the clock, nothing else does",
        over_s=over_s,
    )


def test_a_full_disk_stops_no_request_and_loses_no_record(
    sturdy: Sturdy, table: FaultTable
) -> None:
    gateway = sturdy.gateway
    before = len(records_of(sturdy))
    full = (1024, resource.RLIM_INFINITY)  # bytes of any file of the process: its log's too
    resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, full)
    answers = Clients(gateway).send(*[chat(max_tokens=3)] * 30).wait_all()
    assert all(answer.is_whole for answer in answers)
    wait_for(lambda: waiting_records(gateway) == 30, "the records do not wait")
    assert health_of(gateway) == 200
    assert len(chain_of(sturdy.usage)) == before
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, unlimited)
    over_s = wait_for(lambda: not waiting_records(gateway), "the records are not written")
    assert len(chain_of(sturdy.usage)) == before + 30
    table.add(
        "disk full for log and usage records (`RLIMIT_FSIZE`), then not",
        clients="30 requests, all answered",
        lost="log lines; no record",
        service="records wait in memory, and are written in order",
        over_s=over_s,
    )


def records_of(sturdy: Sturdy) -> list[dict[str, Any]]:
    """Those on disk, and none is on its way: they are written in order, and the last is of now."""
    mark = next(sturdy.marks)
    Clients(sturdy.gateway).send(chat(max_tokens=mark)).wait_all()
    records: list[dict[str, Any]] = []

    def has_last() -> bool:
        records[:] = chain_of(sturdy.usage)
        return bool(records) and records[-1]["completion_tokens"] == mark

    wait_for(has_last, "the record is not written")
    return records


def waiting_records(gateway: GatewayProcess) -> int:
    return int(metric(gateway, "gateway_usage_waiting"))


def silence_of(gateway: GatewayProcess) -> float:
    return metric(gateway, "gateway_engine_silence_seconds")


def metric(gateway: GatewayProcess, name: str) -> float:
    with gateway.client() as client:
        lines = client.get("/metrics").text.splitlines()
    (line,) = [each for each in lines if each.startswith(f"{name} ")]
    return float(line.split()[1])


def test_a_model_whose_files_go_away_is_served_on(sturdy: Sturdy, table: FaultTable) -> None:
    gateway = sturdy.gateway
    begun = time.monotonic()
    shutil.rmtree(sturdy.model)
    assert is_serving(gateway)
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
    bodies = [chat(stream=True, max_tokens=50), chat(max_tokens=50)]
    constrained = {**chat(max_tokens=50, response_format=schema), "ignore_eos": False}
    answers = Clients(gateway).send(*bodies, constrained).wait_all()
    assert [answer.status for answer in answers] == [200, 200, 200]
    with gateway.client() as client:
        prompt = {"model": "bundled", "prompt": "Which ship?"}
        assert client.post("/tokenize", json=prompt).status_code == 200
    assert health_of(gateway) == 200
    table.add(
        "the model's directory is removed while it is served",
        clients="are answered",
        service="goes on; the next start says that the directory is gone, and ends with 2",
        over_s=time.monotonic() - begun,
    )
