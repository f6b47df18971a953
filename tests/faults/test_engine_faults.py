"""The engine is killed, stopped and broken while clients wait for it, and so is its gateway.

The rows of the engine's own process stand on the simulated device; those of its worker on the real
model, where it is a process of its own, on a CPU too.
"""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.faults.fault_table import FaultTable
from tests.faults.faulty_gateway import (
    HUNG_AFTER_S,
    Clients,
    chain_of,
    chat,
    faulty_gateway,
    health_of,
    simulated,
)
from tests.faults.waiting import wait_for
from tests.integration.gateway_process import GatewayProcess

IN_FLIGHT = [chat(), chat(stream=True), chat(), chat(stream=True)]
TOLD = "503, or an error event at the stream's end"


def last_state(gateway: GatewayProcess) -> str:
    states: list[str] = [line["state"] for line in gateway.log() if line["message"] == "state"]
    return states[-1]


def wait_end(gateway: GatewayProcess, begun: float) -> float:
    """Seconds from `begun` to the end of the process; /health must not have lied meanwhile."""
    has_failed = False
    while gateway.process.poll() is None:
        assert time.monotonic() - begun < 120, "the process does not end"
        health = health_of(gateway)
        assert not (has_failed and health == 200), "health went back to 200"
        has_failed = has_failed or health == 503
        time.sleep(0.05)
    return time.monotonic() - begun


def break_it(gateway: GatewayProcess, pid: int, fatal: "Fatal") -> float:
    """Send the signal with clients in flight; they all have to be told. Seconds to the end."""
    clients = Clients(gateway).send(*IN_FLIGHT).wait_running()
    family = psutil.Process(gateway.process.pid).children(recursive=True)
    begun = time.monotonic()
    os.kill(pid, fatal.number)
    over_s = wait_end(gateway, begun)
    assert (gateway.process.returncode, last_state(gateway)) == (fatal.code, fatal.state)
    assert all(answer.is_told for answer in clients.wait_all())
    assert not psutil.wait_procs(family, timeout=60)[1], "a process is left behind"
    return over_s


@dataclass(frozen=True)
class Fatal:
    """A signal, and how the service ends by it. `hung_after_s`: the setting."""

    number: signal.Signals
    code: int
    state: str
    hung_after_s: int = 30
    note: str = ""

    def __str__(self) -> str:
        return self.number.name


FATAL = (
    Fatal(signal.SIGKILL, 70, "engine_dead"),
    Fatal(signal.SIGSEGV, 70, "engine_dead"),
    Fatal(signal.SIGSTOP, 71, "hung", HUNG_AFTER_S, f" (`hung_after_s` {HUNG_AFTER_S})"),
)


@pytest.mark.parametrize("fatal", FATAL, ids=str)
def test_a_broken_engine_ends_the_process_and_every_client_is_told(
    tmp_path: Path, table: FaultTable, fatal: Fatal
) -> None:
    patience = f"server.hung_after_s={fatal.hung_after_s}"
    with faulty_gateway(tmp_path, *simulated(), patience) as gateway:
        (engine,) = gateway.engine_pids()
        over_s = break_it(gateway, engine, fatal)
    add_row(table, "engine", fatal, over_s)


@pytest.mark.parametrize("fatal", FATAL, ids=str)
def test_a_broken_worker_ends_the_process_and_every_client_is_told(
    tmp_path: Path, table: FaultTable, fatal: Fatal
) -> None:
    patience = f"server.hung_after_s={fatal.hung_after_s}"
    with faulty_gateway(tmp_path, patience) as gateway:
        (worker,) = gateway.worker_pids()
        over_s = break_it(gateway, worker, fatal)
    add_row(table, "worker", fatal, over_s)


def add_row(table: FaultTable, who: str, fatal: Fatal, over_s: float) -> None:
    table.add(
        f"{who}: {fatal.number.name}{fatal.note}",
        clients=TOLD,
        lost="the running requests, each told",
        service=f"`/health` 503, exit {fatal.code}",
        over_s=over_s,
    )


def test_a_stopped_engine_is_seen_when_nobody_asks_it_anything(
    tmp_path: Path, table: FaultTable
) -> None:
    with faulty_gateway(tmp_path, *simulated()) as gateway:
        (engine,) = gateway.engine_pids()
        begun = time.monotonic()
        os.kill(engine, signal.SIGSTOP)
        over_s = wait_end(gateway, begun)
        assert gateway.process.returncode == 71
        wait_for(lambda: not psutil.pid_exists(engine), "the engine is left behind")
    table.add(
        f"engine: SIGSTOP while idle (`hung_after_s` {HUNG_AFTER_S})",
        clients="none",
        service="`/health` 503, engine killed, exit 71",
        over_s=over_s,
    )


def test_a_step_that_raises_ends_the_process_and_every_client_is_told(
    tmp_path: Path, table: FaultTable
) -> None:
    # With this seed the first failure comes at step 153: after the warm-up, in the answers.
    with faulty_gateway(tmp_path, *simulated(failure_rate=0.01, seed=24)) as gateway:
        begun = time.monotonic()
        clients = Clients(gateway).send(*IN_FLIGHT)
        over_s = wait_end(gateway, begun)
        assert gateway.process.returncode == 70
        assert all(answer.is_told for answer in clients.wait_all())
    table.add(
        "engine: an exception in a step (the simulated device's `failure_rate`)",
        clients=TOLD,
        lost="the running requests, each told",
        service="`/health` 503, exit 70",
        over_s=over_s,
    )


def test_a_killed_gateway_leaves_no_engine_behind_and_its_records_are_whole(
    tmp_path: Path, table: FaultTable
) -> None:
    usage = tmp_path / "usage"
    with faulty_gateway(tmp_path, *simulated(), f"usage.directory={usage}") as gateway:
        answered = Clients(gateway).send(*[chat(max_tokens=5)] * 5).wait_all()
        wait_for(lambda: len(chain_of(usage)) == len(answered), "the records are not written")
        clients = Clients(gateway).send(*IN_FLIGHT).wait_running()
        family = psutil.Process(gateway.process.pid).children(recursive=True)
        begun = time.monotonic()
        gateway.process.kill()
        gateway.process.wait(60)
        _, alive = psutil.wait_procs(family, timeout=60)
        over_s = time.monotonic() - begun
        assert not alive
        assert not any(answer.is_whole for answer in clients.wait_all())
    records = chain_of(usage)
    assert [record["completion_tokens"] for record in records] == [5] * len(answered)
    table.add(
        "gateway: SIGKILL",
        clients="the connection breaks",
        lost="the running requests; up to a second of usage records",
        service="the engine ends with it; the chain of records is whole",
        over_s=over_s,
    )
