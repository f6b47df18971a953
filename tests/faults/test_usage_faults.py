"""The gateway killed while it answers: what its usage records have lost."""

import threading
import time
from pathlib import Path

import httpx

from app.usage.files import find_chains
from app.usage.verification import Chain
from tests.faults.fault_table import FaultTable
from tests.faults.stand_in import REPLICA, Server, running_server
from tests.faults.waiting import wait_for
from tests.integration.gateway_process import SECRET

NUM_CLIENTS = 4
ALLOWED_TO_LOSE_S = 1.0


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
        with httpx.Client(headers=headers, timeout=10) as client:
            while True:
                try:
                    answer = client.post(self._url, json={"model": "x"})
                except httpx.TransportError:
                    return
                self.answered[answer.headers["x-request-id"]] = time.monotonic()

    def wait_for_end(self) -> None:
        for client in self._clients:
            client.join(30)


def records(folder: Path) -> tuple[Chain, set[str]]:
    chain = Chain(REPLICA, find_chains(folder)[REPLICA])
    return chain, {str(record["id"]) for record in chain}


def test_a_killed_gateway_has_lost_the_records_of_its_last_second_at_most(
    tmp_path: Path, table: FaultTable
) -> None:
    usage = tmp_path / "usage"
    with running_server(tmp_path, usage=usage) as server:
        load = Load(server)
        time.sleep(3)
        server.process.kill()
        killed_s = time.monotonic()
        load.wait_for_end()
    chain, kept = records(usage)
    assert chain.faults == []
    lost = [at_s for name, at_s in load.answered.items() if name not in kept]
    assert len(kept) > 100
    assert all(at_s > killed_s - ALLOWED_TO_LOSE_S for at_s in lost)
    with running_server(tmp_path, usage=usage) as server:
        again = server.ask_for_id()
        wait_for(lambda: again in records(usage)[1], "the record is not written")
    chain, kept_then = records(usage)
    assert (chain.faults, chain.has_half_line) == ([], False)
    assert kept < kept_then
    table.add(
        "`kill -9` of the gateway under load: its usage records",
        clients="as with any kill of the gateway",
        lost=f"{len(lost)} of {len(load.answered)} records, all of the last second",
        service="the chain is whole and the next start goes on with it",
        over_s=max([killed_s - at_s for at_s in lost], default=0.0),
    )
