"""The shipped command, and the clients that a fault meets."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from app.usage.files import find_chains
from app.usage.verification import Chain
from tests.faults.waiting import wait_for
from tests.integration.gateway_process import GatewayProcess, running_gateway

EXECUTOR = "--distributed-executor-backend app.engine.simulated.SimulatedExecutor"
HUNG_AFTER_S = 5
NO_ANSWER = 0


def simulated(**device: Any) -> tuple[str, str]:
    """The settings of a device that takes 20 ms a step; `device`: see SimulatedSettings."""
    told = json.dumps({"simulated_device": {"step_ms": 20, "token_us": 0, **device}})
    return (
        f"engine.extra_args={EXECUTOR} --additional-config '{told}'",
        "model.allow_unquantized=true",
    )


@contextlib.contextmanager
def faulty_gateway(
    folder: Path, *settings: str, variables: Mapping[str, str] | None = None
) -> Iterator[GatewayProcess]:
    """The shipped command, ready, which takes an engine for hung after HUNG_AFTER_S."""
    patience = f"server.hung_after_s={HUNG_AFTER_S}"
    with running_gateway(folder, patience, *settings, variables=variables) as gateway:
        gateway.wait_ready()
        yield gateway


def chat(*, stream: bool = False, max_tokens: int = 2000, **more: Any) -> dict[str, Any]:
    return {
        "model": "bundled",
        "messages": [{"role": "user", "content": "Which ship?"}],
        "max_tokens": max_tokens,
        "ignore_eos": True,
        "stream": stream,
        **more,
    }


@dataclass
class Answer:
    """What a client saw: status (NO_ANSWER: the connection broke), text, and after how long."""

    status: int
    text: str
    after_s: float

    @property
    def is_whole(self) -> bool:
        return self.status == 200 and '"finish_reason":"length"' in self.text

    @property
    def is_told(self) -> bool:
        """It ended with an error that says so: a status, or a stream's last event."""
        last = self.text.replace("data: [DONE]", "").strip().rpartition("\n\n")[2]
        return self.status != NO_ANSWER and '"error"' in last


@dataclass
class Clients:
    """Requests in flight, each on a thread of its own."""

    gateway: GatewayProcess
    answers: list[Answer] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    def send(self, *bodies: dict[str, Any]) -> "Clients":
        for body in bodies:
            thread = threading.Thread(target=self._ask, args=(body,), daemon=True)
            thread.start()
            self.threads.append(thread)
        return self

    def _ask(self, body: dict[str, Any]) -> None:
        begun = time.monotonic()
        try:
            with self.gateway.client(timeout=120) as client:
                answer = client.post("/v1/chat/completions", json=body)
            status, text = answer.status_code, answer.text
        except httpx.TransportError as error:
            status, text = NO_ANSWER, repr(error)
        self.answers.append(Answer(status, text, time.monotonic() - begun))

    def wait_running(self) -> "Clients":
        """Until the engine has them all."""

        def all_there() -> bool:
            return bool(status_of(self.gateway)["queue"]["unfinished"] >= len(self.threads))

        wait_for(all_there, "the requests did not start")
        return self

    @property
    def are_waiting(self) -> bool:
        return any(thread.is_alive() for thread in self.threads)

    def wait_all(self, timeout_s: float = 120) -> list[Answer]:
        deadline = time.monotonic() + timeout_s
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        assert not self.are_waiting, "a client hangs"
        return self.answers


def status_of(gateway: GatewayProcess) -> dict[str, Any]:
    with gateway.client() as client:
        status: dict[str, Any] = client.get("/admin/status").json()
    return status


def health_of(gateway: GatewayProcess) -> int:
    """The status of /health; NO_ANSWER where nobody listens any more."""
    try:
        return httpx.get(f"{gateway.management_url}/health", timeout=60).status_code
    except httpx.TransportError:
        return NO_ANSWER


def is_serving(gateway: GatewayProcess) -> bool:
    """Whether a short request is answered in full, now."""
    with gateway.client() as client:
        answer = client.post("/v1/chat/completions", json=chat(max_tokens=2))
    return answer.status_code == 200


def chain_of(directory: Path) -> list[dict[str, Any]]:
    """The usage records of the one replica there, whose chain has to be whole."""
    ((replica, files),) = find_chains(directory).items()
    chain = Chain(replica, files)
    records = list(chain)
    assert not chain.faults
    return records
