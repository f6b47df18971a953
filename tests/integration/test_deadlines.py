"""Deadlines on the real engine, in every API family: the answer says so, and the engine stops."""

import time
from typing import Any

import httpx
import pytest

from tests.integration.gateway_process import GatewayProcess
from tests.integration.test_metrics import samples

MESSAGES = [{"role": "user", "content": "What is 37 + 5?"}]
# Longer than any machine generates within the deadline.
LONG = {"max_tokens": 3000, "ignore_eos": True}
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": MESSAGES, **LONG}),
    ("/v1/chat/completions", {"messages": MESSAGES, "n": 2, **LONG}),
    ("/v1/completions", {"prompt": ["What is 37 + 5?", "What is 1 + 1?"], **LONG}),
    ("/v1/responses", {"input": "What is 37 + 5?", "max_output_tokens": 3000, "ignore_eos": True}),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "body"), REQUESTS)
def test_what_is_late_is_ended_and_told_so(
    gateway: GatewayProcess, client: httpx.Client, path: str, body: dict[str, Any], stream: bool
) -> None:
    said_before = len(gateway.log_file.read_text())
    body = {"model": "bundled", "stream": stream, **body}
    answer = client.post(path, json=body, headers={"x-request-timeout-ms": "500"})
    if stream and answer.status_code == 200:
        assert "deadline_exceeded" in answer.text
    else:
        assert answer.status_code == 504
        assert answer.json()["error"]["type"] == "timeout_error"
    assert "Traceback" not in gateway.log_file.read_text()[said_before:]
    assert_nothing_runs(client)


@pytest.mark.parametrize("stream", [False, True])
def test_a_message_that_is_late_says_so_too(client: httpx.Client, stream: bool) -> None:
    """This family cannot be made to answer at length: its time is over before it begins."""
    body = {"model": "bundled", "stream": stream, "messages": MESSAGES, "max_tokens": 400}
    answer = client.post("/v1/messages", json=body, headers={"x-request-timeout-ms": "1"})
    assert answer.status_code in (503, 504)
    assert answer.json()["error"]["type"] in ("overloaded_error", "timeout_error")
    assert_nothing_runs(client)


def assert_nothing_runs(client: httpx.Client) -> None:
    """Neither in the engine nor in what the tenant holds, within seconds."""
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s:
        status = client.get("/admin/status").json()["queue"]
        reserved = ("gateway_tenant_reserved_tokens", frozenset({("tenant", "tester")}))
        held = samples(client).get(reserved, 0)
        if (status["unfinished"], held) == (0, 0):
            return
        time.sleep(0.05)
    raise AssertionError(f"still there: {status}, {held} tokens")


def test_an_answer_in_time_is_whole(client: httpx.Client) -> None:
    body = {"model": "bundled", "messages": MESSAGES}
    headers = {"x-request-timeout-ms": "60000"}
    answer = client.post("/v1/chat/completions", json=body, headers=headers)
    assert answer.json()["choices"][0]["message"]["content"]
