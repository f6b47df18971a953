"""The Redis of shared limits stops or hangs under the HTTP side as shipped, in its own process."""

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from app.core.keys import digest_of, make_key
from app.settings.key_file import write_keys
from tests.faults.fault_table import FaultTable
from tests.faults.waiting import wait_for
from tests.integration.gateway_process import ROOT, SECRET, environment, free_port
from tests.shared_limits.redis_server import RedisServer, running_redis

NUM_ASKED = 100
FAULTS = ("stopped", "frozen")
TIMEOUT_S = 0.5
SLOW_S = 0.1  # of each answer
PATIENT_S = 20  # no stall of the machine is taken for an answer that does not come


@dataclass
class LimitedServer:
    url: str

    def ask(self) -> httpx.Response:
        headers = {"authorization": f"Bearer {SECRET}"}
        body = {"model": "bundled"}
        return httpx.post(f"{self.url}/v1/chat/completions", json=body, headers=headers, timeout=60)

    def is_up(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return self.ask().status_code == 200
        return False

    def metric(self, name: str) -> float:
        headers = {"authorization": f"Bearer {SECRET}"}
        lines = httpx.get(f"{self.url}/metrics", headers=headers, timeout=60).text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


@contextlib.contextmanager
def limited_server(
    folder: Path, redis_url: str, policy: str, timeout_s: float = TIMEOUT_S
) -> Iterator[LimitedServer]:
    port, keys = free_port(), folder / "keys.yaml"
    limits = {"tokens_per_minute": 1_000_000}
    scopes = ["infer", "metrics", "admin"]
    write_keys(keys, [make_key("tester", digest_of(SECRET), scopes, limits=limits)])
    command = [sys.executable, "-m", "tests.faults.limited_server", str(port), str(keys)]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            [*command, redis_url, policy, str(timeout_s)],
            cwd=ROOT,
            env=environment(),
            stdout=log,
            stderr=log,
        ) as process,
    ):
        server = LimitedServer(f"http://127.0.0.1:{port}")
        try:
            wait_for(server.is_up, f"it does not start: {folder}/log")
            yield server
        finally:
            process.kill()


def break_redis(redis: RedisServer, fault: str) -> None:
    if fault == "stopped":
        redis.stop(signal.SIGKILL)
    else:
        redis.send(signal.SIGSTOP)


def mend_redis(redis: RedisServer, fault: str) -> None:
    if fault == "stopped":
        redis.start()
    else:
        redis.send(signal.SIGCONT)


def ask_many(server: LimitedServer) -> list[httpx.Response]:
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda _: server.ask(), range(NUM_ASKED)))


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("policy", ["fail_closed", "fail_open"])
def test_a_redis_that_is_away_costs_what_the_policy_says_and_nothing_more(
    tmp_path: Path, table: FaultTable, policy: str, fault: str
) -> None:
    with (
        running_redis(tmp_path) as redis,
        limited_server(tmp_path, redis.url, policy) as server,
    ):
        break_redis(redis, fault)
        answers = ask_many(server)
        if policy == "fail_closed":
            assert {answer.status_code for answer in answers} == {503}
            assert {answer.json()["error"]["code"] for answer in answers} == {"limits_unavailable"}
            assert all(int(answer.headers["retry-after"]) > 0 for answer in answers)
        else:
            assert {answer.status_code for answer in answers} == {200}
            assert "x-ratelimit-remaining-tokens" in answers[-1].headers
        wait_for(lambda: server.metric("gateway_redis_away") == 1, "it is not seen")
        assert server.metric("gateway_redis_failures_total") >= NUM_ASKED
        mend_redis(redis, fault)
        begun = time.monotonic()
        wait_for(lambda: server.metric("gateway_redis_away") == 0, "it stays away")
        wait_for(server.is_up, "it does not answer well again")
        over_s = time.monotonic() - begun
        wait_for(lambda: server.metric("gateway_tenant_reserved_tokens") == 0, "something leaked")
    said = {
        "fail_closed": "get 503 with `Retry-After`: at once, after the first time-out of 0.5 s",
        "fail_open": "are all answered, the first ones 0.5 s later",
    }
    table.add(
        f"Redis of shared limits {fault}, `{policy}`",
        clients=said[policy],
        service="goes on; counts in Redis again as soon as it answers",
        over_s=over_s,
    )


@contextlib.contextmanager
def slowed(redis: RedisServer) -> Iterator[list[float]]:
    """Redis does nothing else for SLOW_S, again and again; yields a list of these times."""
    is_over, slept = threading.Event(), list[float]()

    def slow_down() -> None:
        with redis.client() as client:
            while not is_over.is_set():
                client.execute_command("DEBUG", "SLEEP", SLOW_S)
                slept.append(SLOW_S)

    thread = threading.Thread(target=slow_down)
    thread.start()
    try:
        yield slept
    finally:
        is_over.set()
        thread.join()


def test_a_slow_redis_costs_its_slowness_and_refuses_nobody(
    tmp_path: Path, table: FaultTable
) -> None:
    with (
        running_redis(tmp_path, "--enable-debug-command", "local") as redis,
        limited_server(tmp_path, redis.url, "fail_closed", PATIENT_S) as server,
    ):
        failures = server.metric("gateway_redis_failures_total")  # it was asked before it was up
        with slowed(redis) as slept:
            answers = ask_many(server)
        assert {answer.status_code for answer in answers} == {200}
        assert len(slept) > 2  # it was slow all the while
        assert server.metric("gateway_redis_failures_total") == failures
        wait_for(lambda: server.metric("gateway_tenant_reserved_tokens") == 0, "something leaked")
    table.add(
        f"Redis of shared limits slow: {SLOW_S:g} s for each answer, `fail_closed`",
        clients="are all answered, each later by that",
        service="goes on",
        over_s=0.0,
    )
