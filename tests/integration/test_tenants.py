"""Tenants of one gateway: what they may learn of each other, and what becomes of those who wait."""

import asyncio
import time
from typing import Any

import httpx
import pytest

from tests.faults.waiting import wait_for
from tests.integration.gateway_process import GatewayProcess
from tests.integration.test_fairness import flood
from tests.integration.test_metrics import samples

PROMPT = "Of all that was ever said about the harbour in winter this is the longest. " * 8
MESSAGES = [{"role": "user", "content": "What is 37 + 5?"}]
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": MESSAGES}),
    ("/v1/completions", {"prompt": "What is 37 + 5?"}),
    ("/v1/responses", {"input": "What is 37 + 5?"}),
    ("/v1/messages", {"messages": MESSAGES, "max_tokens": 3}),
]


def series(gateway: GatewayProcess, name: str, **labels: str) -> float:
    with gateway.client("sk-scraper") as client:
        return samples(client).get((name, frozenset(labels.items())), 0.0)


def cached_tokens(gateway: GatewayProcess, tenant: str) -> int:
    """Of the long prompt, asked by the tenant now."""

    def so_far() -> float:
        return series(gateway, "gateway_tenant_tokens_total", tenant=tenant, kind="cached")

    before = so_far()
    with gateway.client(f"sk-{tenant}") as client:
        body = {"model": "bundled", "prompt": PROMPT, "max_tokens": 1}
        client.post("/v1/completions", json=body).raise_for_status()
    time.sleep(0.1)  # it is counted just after its last byte
    return int(so_far() - before)


def test_tenants_meet_in_the_prefix_cache_only_where_both_say_so(simulated: GatewayProcess) -> None:
    assert cached_tokens(simulated, "light") == 0
    assert cached_tokens(simulated, "light") > 100
    assert cached_tokens(simulated, "heavy") == 0
    assert cached_tokens(simulated, "open") == 0
    assert cached_tokens(simulated, "open-too") > 100


async def beside_a_flood(simulated: GatewayProcess, ask: Any) -> Any:
    """What `ask` makes of a client, once the flood has been measured for a while."""
    limits = httpx.Limits(max_connections=100)
    async with httpx.AsyncClient(base_url=simulated.url, limits=limits, timeout=120) as client:
        waits: list[float] = []
        flooding = [asyncio.create_task(flood(client, waits)) for _ in range(32)]
        while len(waits) < 64:  # noqa: ASYNC110 - one of many clients will make it enough
            await asyncio.sleep(0.05)
        try:
            return await ask(client)
        finally:
            for task in flooding:
                task.cancel()
            await asyncio.gather(*flooding, return_exceptions=True)


@pytest.mark.parametrize("stream", [False, True])
def test_a_deadline_that_cannot_be_met_is_refused_at_once_on_every_route(
    simulated: GatewayProcess, stream: bool
) -> None:
    headers = {"authorization": "Bearer sk-heavy", "x-request-timeout-ms": "400"}

    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [
            await client.post(
                path, json={"model": "bundled", "stream": stream, **body}, headers=headers
            )
            for path, body in REQUESTS
        ]

    for answer in asyncio.run(beside_a_flood(simulated, ask)):
        assert answer.status_code == 503, answer.text
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert "deadline" in answer.json()["error"]["message"]


def test_who_leaves_while_waiting_is_gone_at_once(simulated: GatewayProcess) -> None:
    body = {"model": "bundled", "prompt": "What is 1 + 1?", "max_tokens": 500, "ignore_eos": True}

    def num_waiting() -> float:
        return series(simulated, "gateway_queue_waiting", tenant="heavy")

    async def use() -> None:
        headers = {"authorization": "Bearer sk-heavy"}
        async with httpx.AsyncClient(base_url=simulated.url, headers=headers) as client:
            asking = [
                asyncio.create_task(client.post("/v1/completions", json=body, timeout=60))
                for _ in range(20)
            ]
            await asyncio.to_thread(wait_for, lambda: num_waiting() >= 11, "they do not wait")
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        await asyncio.to_thread(wait_for, lambda: num_waiting() == 0, "they wait on")

    asyncio.run(use())
    held = series(simulated, "gateway_tenant_reserved_tokens", tenant="heavy")
    assert held == 0
