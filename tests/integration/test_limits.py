"""Limits on the real engine's routes: whatever vLLM makes of a refusal, the client gets ours."""

from typing import Any

import pytest

from tests.integration.gateway_process import LIMITED_SECRET, GatewayProcess

MESSAGES = [{"role": "user", "content": "What is 37 + 5?"}]
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": MESSAGES}),
    ("/v1/completions", {"prompt": "What is 37 + 5?"}),
    ("/v1/completions", {"prompt": ["What is 37 + 5?", "What is 1 + 1?"]}),
    ("/v1/responses", {"input": "What is 37 + 5?"}),
    ("/v1/messages", {"messages": MESSAGES, "max_tokens": 3}),
]


def test_a_request_without_a_length_gets_the_keys(gateway: GatewayProcess) -> None:
    """First in this file: the key has one request per minute."""
    with gateway.client(LIMITED_SECRET) as client:
        body = {"model": "bundled", "messages": MESSAGES, "ignore_eos": True}
        answer = client.post("/v1/chat/completions", json=body)
        assert answer.json()["usage"]["completion_tokens"] == 3
        assert answer.headers["x-ratelimit-remaining-requests"] == "0"
        too_long = client.post("/v1/chat/completions", json={**body, "max_tokens": 4})
        too_many = client.post("/v1/chat/completions", json={**body, "n": 3})
    for refused, param in ((too_long, "max_tokens"), (too_many, "n")):
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == param


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "body"), REQUESTS)
def test_a_used_up_quota_is_a_429_on_every_route(
    gateway: GatewayProcess, path: str, body: dict[str, Any], stream: bool
) -> None:
    said_before = len(gateway.log_file.read_text())
    with gateway.client(LIMITED_SECRET) as client:
        for _ in range(2):
            answer = client.post(path, json={"model": "bundled", "stream": stream, **body})
            if answer.status_code == 429:
                break
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["error"]["type"] == "rate_limit_error"
    assert "Traceback" not in gateway.log_file.read_text()[said_before:]
