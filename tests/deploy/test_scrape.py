"""A real Prometheus scrapes a real gateway: every expression that we ship returns data."""

import re
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.deploy.prometheus_server import PrometheusServer, running_prometheus
from tests.deploy.promql import (
    Expression,
    alerts,
    panel_expressions,
    rule_expressions,
    rules,
)
from tests.integration.gateway_process import (
    START_TIMEOUT_S,
    GatewayProcess,
    running_gateway,
)

CHAT = {"model": "bundled", "messages": [{"role": "user", "content": "What is 12 + 5?"}]}
# Made by their first event, which the traffic below does not bring about; of Redis there is none.
KNOWN_TO_BE_ZERO = {
    "gateway_refusals_total",
    "gateway_queue_waiting",
    "gateway_redis_failures_total",
    "gateway_redis_duration_seconds_bucket",
}
RECORDINGS = [e for e, rule in zip(rule_expressions(), rules(), strict=True) if "record" in rule]
ALERTS = [e for e in rule_expressions() if e.where in alerts()]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    """Some traffic of every kind, seen by Prometheus at least twice."""
    with running_gateway(tmp_path_factory.mktemp("gateway")) as gateway:
        target = gateway.management_url.removeprefix("http://")
        folder = tmp_path_factory.mktemp("prometheus")
        with running_prometheus(folder, target) as server:
            # Not by asking /v1 meanwhile: 503 while it loads would count against the objective.
            server.wait_for('gateway_state{state="ready"} == 1', START_TIMEOUT_S)
            for _ in range(3):
                make_traffic(gateway)
                time.sleep(2.5)
            server.wait_for("gateway:slow_first_token_ratio:rate6h")
            yield server


def make_traffic(gateway: GatewayProcess) -> None:
    with gateway.client() as client:
        for stream in (False, True):
            client.post("/v1/chat/completions", json=CHAT | {"stream": stream}).raise_for_status()
        assert client.post("/v1/chat/completions", json={"model": "none"}).status_code >= 400
    with gateway.client("sk-nobody") as client:
        assert client.get("/v1/models").status_code == 401


@pytest.mark.parametrize("expression", RECORDINGS, ids=lambda e: e.where)
def test_a_recording_rule_has_a_value(prometheus: PrometheusServer, expression: Expression) -> None:
    assert prometheus.wait_for(expression.where)


@pytest.mark.parametrize("expression", ALERTS, ids=lambda e: e.where)
def test_an_alert_watches_series_that_are_there_and_is_quiet(
    prometheus: PrometheusServer, expression: Expression
) -> None:
    for series in expression.series - KNOWN_TO_BE_ZERO:
        assert prometheus.wait_for(series)
    firing = f'ALERTS{{alertname="{expression.where}",alertstate="firing"}}'
    assert prometheus.query(firing) == []


@pytest.mark.parametrize("expression", panel_expressions(), ids=lambda e: e.where)
def test_a_panel_shows_something(prometheus: PrometheusServer, expression: Expression) -> None:
    if not expression.series <= KNOWN_TO_BE_ZERO:
        assert prometheus.wait_for(expression.text)


def test_labels_that_the_rules_match_on_have_such_values(prometheus: PrometheusServer) -> None:
    (scheme,) = prometheus.wait_for("gateway_quantization_info")
    assert scheme["metric"]["scheme"] == "w8a8-int8"
    states = {entry["metric"]["state"] for entry in prometheus.wait_for("gateway_state")}
    wanted = {
        state
        for expression in rule_expressions()
        for states_ in re.findall(r'state=~?"([^"]+)"', expression.text)
        for state in states_.split("|")
    }
    assert wanted <= states


def test_the_management_port_has_metrics_and_no_model(prometheus: PrometheusServer) -> None:
    (target,) = prometheus.wait_for("up == 1")
    answer = httpx.get(f"http://{target['metric']['instance']}/v1/models", timeout=60)
    assert answer.status_code == 404
