"""So many generated requests against a running gateway, which has to stay well and small."""

import httpx
import psutil
from hypothesis import HealthCheck, Phase, given, settings

from app.core.envelopes import MAX_ERROR_BYTES
from tests.fuzz.request_grammar import requests
from tests.integration.gateway_process import GatewayProcess

WARM_UP = 200
JSON = {"content-type": "application/json"}


def check_answer(path: str, answer: httpx.Response) -> None:
    assert answer.status_code < 500 or (
        answer.status_code == 503 and "retry-after" in answer.headers
    ), (path, answer.status_code, answer.text)
    if answer.status_code >= 400:
        assert len(answer.content) <= MAX_ERROR_BYTES
        assert answer.json()["error"]["message"]
        assert "Traceback" not in answer.text


def attack_with(gateway: GatewayProcess, num_requests: int) -> str:
    """Raises AssertionError with the smallest request that is answered wrongly; else says what the
    gateway's memory did after the warm-up."""
    process = psutil.Process(gateway.process.pid)
    engines = gateway.engine_pids()
    statuses: dict[int, int] = {}
    memory: list[int] = []

    @settings(
        max_examples=num_requests,
        deadline=None,
        database=None,
        derandomize=True,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(requests)
    def ask(request: tuple[str, bytes]) -> None:
        path, content = request
        answer = client.post(path, content=content, headers=JSON)
        check_answer(path, answer)
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
        if sum(statuses.values()) in (WARM_UP, num_requests):
            memory.append(process.memory_info().rss)

    with gateway.client() as client:
        ask()
    assert gateway.engine_pids() == engines
    growth = (memory[-1] - memory[0]) / 1e6
    return f"{sum(statuses.values())} requests, by status {statuses}; memory {growth:+.1f} MB"
