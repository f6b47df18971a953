"""The series on /metrics after real requests."""

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.faults.waiting import wait_for
from tests.integration.gateway_process import GatewayProcess

CHAT = {"model": "bundled", "messages": [{"role": "user", "content": "What is 12 + 5?"}]}


def samples(client: httpx.Client) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = client.get("/metrics").text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_each_request_is_counted_once_with_its_tokens(client: httpx.Client) -> None:
    requests = (
        "gateway_requests_total",
        frozenset({("route", "/v1/chat/completions"), ("status", "200"), ("key", "tester")}),
    )
    prompt = ("gateway_prompt_tokens_total", frozenset({("key", "tester")}))
    completion = ("gateway_completion_tokens_total", frozenset({("key", "tester")}))
    client.post("/v1/chat/completions", json=CHAT)
    before = samples(client)
    usage = client.post("/v1/chat/completions", json=CHAT).json()["usage"]
    streamed = CHAT | {"stream": True, "n": 2}
    text = client.post("/v1/chat/completions", json=streamed).text
    assert text.endswith("data: [DONE]\n\n")
    # A stream is counted just after its last byte.
    wait_for(lambda: samples(client)[requests] - before[requests] == 2, "not counted")
    after = samples(client)
    assert after[prompt] - before[prompt] == usage["prompt_tokens"] * 2
    assert after[completion] - before[completion] > usage["completion_tokens"]


@pytest.mark.parametrize(
    "name",
    [
        "gateway_time_to_first_token_seconds_count",
        "gateway_inter_token_latency_seconds_count",
        "gateway_request_duration_seconds_count",
    ],
)
def test_latencies_are_observed(client: httpx.Client, name: str) -> None:
    key = (name, frozenset({("route", "/v1/chat/completions")}))
    client.post("/v1/chat/completions", json=CHAT | {"stream": True}).read()
    before = samples(client).get(key, 0)
    client.post("/v1/chat/completions", json=CHAT | {"stream": True}).read()
    assert samples(client)[key] > before


def test_kernel_state_and_vllms_own_series_are_shown(client: httpx.Client) -> None:
    found = samples(client)
    info = next(labels for name, labels in found if name == "gateway_quantization_info")
    assert dict(info)["scheme"] == "w8a8-int8"
    assert "Int8" in dict(info)["kernel"]
    assert found[("gateway_state", frozenset({("state", "ready")}))] == 1
    names = {name for name, _ in found}
    assert {
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
        "vllm:kv_cache_usage_perc",
    } <= names


def test_the_start_says_where_its_time_went(gateway: GatewayProcess, client: httpx.Client) -> None:
    phases = ("process", "checks", "imports", "engine", "warm_up")
    found = samples(client)
    spent = {
        phase: found[("gateway_start_seconds", frozenset({("phase", phase)}))] for phase in phases
    }
    assert all(seconds > 0 for seconds in spent.values())
    (line,) = [line for line in gateway.log() if line["message"] == "started"]
    assert line["total_s"] == pytest.approx(sum(spent.values()), abs=0.1)


def test_the_engine_answers_the_heartbeat(client: httpx.Client) -> None:
    """The silence, which grows with time alone, ends again and again."""

    def silent_s() -> float:
        return samples(client)[("gateway_engine_silence_seconds", frozenset())]

    def has_ended() -> bool:
        before, last[0] = last[0], silent_s()
        return last[0] < before

    for _ in range(2):
        last = [silent_s()]
        wait_for(has_ended, "the engine is silent")


def test_labels_are_bounded_whatever_clients_send(client: httpx.Client) -> None:
    for number in range(20):
        client.get(f"/made-up/{number}")
        client.get(f"/v1/models/made-up-{number}")
        client.get("/v1/models", headers={"authorization": f"Bearer made-up-{number}"})
    assert not [labels for _, labels in samples(client) if "made-up" in str(labels)]
