"""Clients that leave: what they asked for ends in the engine, wherever it had come to.

Everything real but the device, whose steps take 200 ms each: long enough to count them.
"""

import http.client
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.faults.waiting import wait_for
from tests.integration.gateway_process import SECRET, GatewayProcess, running_gateway

STEP_S = 0.2
DEVICE = json.dumps({"simulated_device": {"step_ms": STEP_S * 1000, "token_us": 0}})
EXTRA = (
    "--distributed-executor-backend app.engine.simulated.SimulatedExecutor "
    f"--additional-config '{DEVICE}'"
)
MESSAGES = [{"role": "user", "content": "Which ship?"}]
ENDPOINTS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 2000}),
    ("/v1/completions", {"prompt": "Which ship?", "max_tokens": 2000}),
    ("/v1/responses", {"input": "Which ship?", "max_output_tokens": 2000}),
    ("/v1/messages", {"messages": MESSAGES, "max_tokens": 2000}),
]
REQUESTS = [(path, body | {"stream": stream}) for path, body in ENDPOINTS for stream in (0, 1)]
NUM = len(REQUESTS)


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Runs as many as there are kinds of requests, and as many wait in the engine."""
    settings = (
        f"engine.extra_args={EXTRA}",
        "model.allow_unquantized=true",
        f"engine.max_num_seqs={NUM}",
        f"queue.lookahead={NUM}",
        "queue.max_wait_s=300",
    )
    with running_gateway(tmp_path_factory.mktemp("slow"), *settings) as running:
        running.wait_ready()
        yield running


def series(gateway: GatewayProcess) -> dict[str, float]:
    """Every series' sum over its labels."""
    with gateway.client() as client:
        families = text_string_to_metric_families(client.get("/metrics").text)
    sums: dict[str, float] = {}
    for family in families:
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


def queue_of(gateway: GatewayProcess) -> tuple[int, int]:
    """Requests in hand, and in the engine."""
    with gateway.client() as client:
        queue = client.get("/admin/status").json()["queue"]
    return queue["in_hand"], queue["unfinished"]


def send_all(gateway: GatewayProcess) -> list[http.client.HTTPConnection]:
    """One of each kind; nobody reads an answer."""
    connections = []
    for path, body in REQUESTS:
        connection = http.client.HTTPConnection(urlsplit(gateway.url).netloc, timeout=30)
        sent = {"model": "bundled", "ignore_eos": True, **body, "stream": bool(body["stream"])}
        if path == "/v1/messages":
            del sent["ignore_eos"]
        headers = {"authorization": f"Bearer {SECRET}", "content-type": "application/json"}
        connection.request("POST", path, json.dumps(sent), headers)
        connections.append(connection)
    return connections


def test_whoever_leaves_takes_the_work_along_on_every_route(slow: GatewayProcess) -> None:
    """Streamed and not; running, waiting in the engine, and waiting in the gateway."""
    before = series(slow)
    running = send_all(slow)
    wait_for(lambda: queue_of(slow) == (NUM, NUM), "they do not run")
    wait_for(lambda: series(slow)["vllm:num_requests_running"] == NUM, "they do not run")
    in_engine = send_all(slow)
    wait_for(lambda: queue_of(slow)[1] == 2 * NUM, "the engine's queue is empty")
    in_gateway = send_all(slow)
    wait_for(lambda: queue_of(slow) == (3 * NUM, 2 * NUM), "the gateway's queue is empty")
    left = time.monotonic()
    busy = series(slow)
    assert busy["vllm:kv_cache_usage_perc"] > 0
    assert busy["gateway_queue_waiting"] == NUM
    tokens = busy["vllm:generation_tokens_total"]
    for connection in [*running, *in_engine, *in_gateway]:
        connection.close()
    wait_for(lambda: queue_of(slow) == (0, 0), "something goes on for nobody")
    over_s = time.monotonic() - left
    time.sleep(10 * STEP_S)  # ten steps, in which nothing may come any more
    after = series(slow)
    # Steps that ran while the clients left, one that was running, one scheduled ahead.
    assert after["vllm:generation_tokens_total"] - tokens <= NUM * (over_s / STEP_S + 2)
    assert after["vllm:num_requests_running"] == after["vllm:num_requests_waiting"] == 0
    assert after["vllm:kv_cache_usage_perc"] == 0
    for name in (
        "gateway_queue_waiting",
        "gateway_tenant_requests",
        "gateway_tenant_reserved_tokens",
    ):
        assert after[name] == before.get(name, 0), name
