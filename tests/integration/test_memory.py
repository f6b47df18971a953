"""The plan of a running service, beside what its engine holds."""

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.gateway_process import GatewayProcess


def values(client: httpx.Client, name: str) -> dict[tuple[str, ...], float]:
    """By label values, in the order of the labels' names: (kind, part)."""
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
        if sample.name == name
    }


def test_weights_were_planned_within_1_percent_and_kv_cache_within_3(client: httpx.Client) -> None:
    ratios = values(client, "gateway_memory_planned_ratio")
    assert set(ratios) >= {("weights",), ("kv_cache",)}
    assert abs(ratios[("weights",)] - 1) <= 0.01
    assert abs(ratios[("kv_cache",)] - 1) <= 0.03


def test_planned_and_actual_bytes_are_both_shown(client: httpx.Client) -> None:
    sizes = values(client, "gateway_memory_bytes")
    assert sizes[("actual", "weights")] > 1_000_000
    assert sizes[("actual", "kv_cache")] <= 2**30 <= 1.01 * sizes[("planned", "kv_cache")]


def test_the_log_says_both(gateway: GatewayProcess) -> None:
    lines = [line for line in gateway.log() if "planned" in str(line)]
    parts = {line.get("part") for line in lines}
    assert {"weights", "kv_cache"} <= parts


def test_the_status_holds_the_plan(client: httpx.Client) -> None:
    plan = client.get("/admin/status").json()["plan"]
    assert plan["fits"] is True
    assert plan["weights"]["planned_bytes"] == plan["weights_bytes"]
