"""The gateway killed while it answers: what its usage records have lost."""

import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.usage.files import find_chains
from app.usage.verification import Chain
from tests.faults.fault_table import FaultTable
from tests.faults.stand_in import REPLICA, Server, running_server
from tests.faults.waiting import wait_for
from tests.integration.gateway_process import SECRET

NUM_CLIENTS = 4
ALLOWED_TO_LOSE_S = 1.0
STANDS_STILL_S = 0.1  # without an answer to anybody, the machine does not run


class Load:
    """Clients that ask for as long as they are answered; `answered` has each answer's id and when
    it came."""

    def __init__(self, server: Server) -> None:
        self.answered: dict[str, float] = {}
        self._url = f"http://127.0.0.1:{server.port}/v1/chat/completions"
        self._clients = [threading.Thread(target=self._ask) for _ in range(NUM_CLIENTS)]
        for client in self._clients:
            client.start()

    def _ask(self) -> None:
        headers = {"authorization": f"Bearer {SECRET}"}
        with httpx.Client(headers=headers, timeout=60) as client:
            while True:
                try:
                    answer = client.post(self._url, json={"model": "x"})
                except httpx.TransportError:
                    return
                self.answered[answer.headers["x-request-id"]] = time.monotonic()

    def ages_s(self) -> dict[str, float]:
        """How much longer each was followed by others, without the time when nothing was answered:
        a second of a gateway that runs."""
        newest_first = sorted(self.answered.items(), key=lambda each: -each[1])
        ages, age_s, later_s = dict[str, float](), 0.0, newest_first[0][1]
        for name, at_s in newest_first:
            age_s += min(later_s - at_s, STANDS_STILL_S)
            ages[name], later_s = age_s, at_s
        return ages

    def wait_for_end(self) -> None:
        for client in self._clients:
            client.join(60)


def records(folder: Path) -> tuple[Chain, set[str]]:
    chain = Chain(REPLICA, find_chains(folder)[REPLICA])
    return chain, {str(record["id"]) for record in chain}


@pytest.fixture
def usage() -> Iterator[Path]:
    """In memory: how long a busy disk takes to have a record safe is not the gateway's."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder) / "usage"


def test_a_killed_gateway_has_lost_the_records_of_its_last_second_at_most(
    tmp_path: Path, usage: Path, table: FaultTable
) -> None:
    with running_server(tmp_path, usage=usage) as server:
        load = Load(server)
        time.sleep(3)
        server.process.kill()
        load.wait_for_end()
    chain, kept = records(usage)
    assert chain.faults == []
    lost_s = [age_s for name, age_s in load.ages_s().items() if name not in kept]
    assert len(kept) > 100
    assert max(lost_s, default=0.0) < ALLOWED_TO_LOSE_S
    with running_server(tmp_path, usage=usage) as server:
        again = server.ask_for_id()
        wait_for(lambda: again in records(usage)[1], "the record is not written")
    chain, kept_then = records(usage)
    assert (chain.faults, chain.has_half_line) == ([], False)
    assert kept < kept_then
    table.add(
        "`kill -9` of the gateway under load: its usage records",
        clients="as with any kill of the gateway",
        lost=f"{len(lost_s)} of {len(load.answered)} records, all of the last second",
        service="the chain is whole and the next start goes on with it",
        over_s=max(lost_s, default=0.0),
    )
