"""Which routes there are, who may use them, and that nothing else of vLLM's can be reached."""

import warnings
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from app.api.application import create_app, join_engine, pairs_of
from app.api.metrics import Metrics
from app.api.resources import Resources
from app.core.keys import KeyRing
from app.core.request_rules import RequestRules
from app.core.routes import OPEN_ROUTES, ROUTES
from app.core.state import Phase, ServiceState
from tests.integration.gateway_process import METRICS_SECRET, GatewayProcess
from tests.unit.limits import DEFAULT_LIMITS

# What vLLM's own server has beside the API, from its documentation and its issue threads.
CLOSED = (
    *("/invocations", "/pause", "/resume", "/scale_elastic_ep", "/is_scaling_elastic_ep"),
    *("/abort_requests", "/load", "/version", "/ping", "/server_info", "/collective_rpc"),
    *("/reset_prefix_cache", "/sleep", "/wake_up", "/v1/load_lora_adapter", "/tokenizer_info"),
    *("/v1/chat/completions/batch", "/v1/embeddings", "/score", "/v1/score", "/rerank", "/pooling"),
    *("/classify", "/v1/audio/transcriptions", "/start_profile", "/docs", "/redoc"),
    *("/inference/v1/generate", "/cohere/v2/chat", "/generative_scoring", "/v1/realtime"),
)


@pytest.fixture(scope="module")
def loaded_app() -> Iterator[FastAPI]:
    """The application as it is once the engine's routers have joined."""
    with warnings.catch_warnings(action="ignore"):  # torch's own, while it is imported
        from app.engine.serving import ROUTERS

    state = ServiceState()
    state.enter(Phase.LOADING)
    state.enter(Phase.READY)
    resources = Resources(state, KeyRing([]), Metrics(CollectorRegistry()), "0", "bundled")
    rules = RequestRules(DEFAULT_LIMITS)
    app = create_app(
        resources, rules=rules, max_body_bytes=1024, body_timeout_s=1, sse_keep_alive_s=0
    )
    join_engine(app, ROUTERS)
    yield app


def registered(app: FastAPI) -> set[tuple[str, str]]:
    return {
        (method, path)
        for route in app.routes
        for method, path in pairs_of(route)
        if method != "HEAD"
    }


def test_the_loaded_application_has_the_tables_routes_and_no_other(loaded_app: FastAPI) -> None:
    assert registered(loaded_app) == {(route.method, route.template) for route in ROUTES}


def test_every_route_of_the_loaded_application_but_the_open_ones_needs_a_key(
    loaded_app: FastAPI, capsys: pytest.CaptureFixture[str]
) -> None:
    open_routes = {(route.method, route.template) for route in OPEN_ROUTES}
    with capsys.disabled():
        print("\nwithout a key:", *sorted(f"{method} {path}" for method, path in open_routes))
    import asyncio

    async def ask_all() -> list[tuple[str, str, int]]:
        transport = httpx.ASGITransport(app=loaded_app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return [
                (method, path, (await client.request(method, path)).status_code)
                for method, path in sorted(registered(loaded_app))
            ]

    for method, path, status in asyncio.run(ask_all()):
        assert (status == 401) == ((method, path) not in open_routes), (method, path, status)


@pytest.mark.parametrize("path", CLOSED)
def test_nothing_else_of_vllms_can_be_reached(client: httpx.Client, path: str) -> None:
    for method in ("GET", "POST"):
        answer = client.request(method, path, json={} if method == "POST" else None)
        assert answer.status_code == 404, (method, answer.text)
        assert answer.json()["error"]["code"] == "unknown_route"


def test_a_wrong_method_is_told_the_right_one(client: httpx.Client) -> None:
    answer = client.get("/v1/chat/completions")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer sk-wrong"},
        {"authorization": "Basic dXNlcjpwYXNz"},
        {"authorization": "Bearer"},
        {"x-api-key": "sk-wrong"},
        {"x-api-key": "\xff\xfe"},
    ],
)
def test_without_a_known_key_there_is_a_401_that_says_how(
    gateway: GatewayProcess, headers: dict[str, str]
) -> None:
    with gateway.client(secret=None) as client:
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        answer = client.get("/v1/models", headers=raw)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.json()["error"]["type"] == "authentication_error"


def test_a_key_without_the_scope_is_refused(gateway: GatewayProcess) -> None:
    with gateway.client(secret=METRICS_SECRET) as client:
        assert client.get("/metrics").status_code == 200
        for path in ("/v1/models", "/admin/status"):
            answer = client.get(path)
            assert answer.status_code == 403
            assert answer.json()["error"]["code"] == "insufficient_scope"


def test_the_management_port_has_probes_and_metrics_and_no_inference(
    gateway: GatewayProcess,
) -> None:
    with httpx.Client(base_url=gateway.management_url) as client:
        assert client.get("/health").status_code == 200
        assert client.get("/ready").status_code == 200
        assert "gateway_requests_total" in client.get("/metrics").text
        for path in ("/v1/models", "/admin/status", "/openapi.json"):
            assert client.get(path).status_code == 404


def test_while_the_model_loads_health_is_green_readiness_says_why_and_requests_get_503(
    gateway: GatewayProcess,
) -> None:
    early = gateway.early
    assert {status for path, status, _ in early if path == "/health"} == {200}
    readiness = [answer for path, status, answer in early if path == "/ready" and status == 503]
    assert any("the model is loading" in answer["_"] for answer in readiness)
    refused: list[Any] = [(s, answer) for path, s, answer in early if path == "/v1/models"]
    assert {status for status, _ in refused} == {503}
    assert all(int(answer["retry-after"]) > 0 for _, answer in refused)


def test_status_names_kernel_scheme_and_keys_without_secrets(client: httpx.Client) -> None:
    answer = client.get("/admin/status")
    status = answer.json()
    assert status["state"] == "ready"
    assert status["quantization"]["scheme"] == "w8a8-int8"
    assert "Int8" in status["quantization"]["kernel"]
    assert {key["name"] for key in status["keys"]} == {"tester", "scraper", "limited", "fuzzer"}
    assert "sha256" not in answer.text
    assert "sk-test" not in answer.text
