import asyncio
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app.core.keys import KeyRing, digest_of, make_key
from app.core.meter import current_meter
from app.core.state import Phase, ServiceState
from app.core.strict_json import parse_object
from tests.unit.api.conftest import SECRET, ScriptedEngine

CHAT = "/v1/chat/completions"
BODY = {"model": "bundled"}
HELLO = [{"role": "user", "content": "Hello"}]
JSON = {"content-type": "application/json"}


def ask(client: httpx.AsyncClient, method: str, path: str, **more: Any) -> httpx.Response:
    return asyncio.run(client.request(method, path, **more))


def test_a_route_of_the_engines_router_that_the_table_lacks_stays_closed(
    client: httpx.AsyncClient,
) -> None:
    assert ask(client, "POST", "/invocations", json=BODY).status_code == 404


def test_secrets_and_vendor_headers_end_at_the_door(client: httpx.AsyncClient) -> None:
    given = {"x-vllm-priority": "1", "X-Session-ID": "s", "x-data-parallel-rank": "0"}
    given |= {"x-api-key": "sk-other", "cookie": "a=b", "x-vllm-anything-new": "1"}
    seen = ask(client, "POST", CHAT, json=BODY, headers=given).json()["headers"]
    assert not {name for name in seen if name.startswith("x-vllm")}
    assert not set(seen) & {"authorization", "x-api-key", "cookie", "x-session-id"}
    assert "x-request-id" in seen


def test_a_hub_id_with_a_slash_is_one_model(client: httpx.AsyncClient) -> None:
    assert ask(client, "GET", "/v1/models/org/bundled").json() == {"id": "org/bundled"}
    assert ask(client, "GET", "/v1/models/org").status_code == 404


@pytest.mark.parametrize("phase", [Phase.LOADING, Phase.DRAINING, Phase.ENGINE_DEAD])
def test_work_is_refused_unless_ready_and_probes_say_why(
    client: httpx.AsyncClient, state: ServiceState, phase: Phase
) -> None:
    state.phase = phase
    answer = ask(client, "POST", CHAT, json=BODY)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == phase
    assert int(answer.headers["retry-after"]) > 0
    ready = ask(client, "GET", "/ready")
    assert ready.status_code == 503
    assert ready.json()["state"] == phase
    assert ready.json()["reason"]
    healthy = ask(client, "GET", "/health").status_code == 200
    assert healthy == (phase is not Phase.ENGINE_DEAD)


def test_constraints_are_tried_out_in_the_name_of_the_keys_tenant(
    app: FastAPI, client: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    keys = KeyRing([make_key("k", digest_of(SECRET), ["infer"], tenant="t")])
    app.state.resources.keys.adopt(keys)
    body = BODY | {"structured_outputs": {"regex": "[ab]"}, "messages": HELLO}
    assert ask(client, "POST", CHAT, json=body).status_code == 200
    assert [each.text for each in engine.constraints] == ["[ab]"]
    assert engine.constraining_tenant == "t"


def test_long_bodies_are_checked_in_turns_of_the_tenants(
    app: FastAPI, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [make_key(name, digest_of(name), ["infer"], tenant=name) for name in ("many", "one")]
    app.state.resources.keys.adopt(KeyRing(keys))
    checked: list[str] = []
    may_go_on = threading.Event()

    def note(body: bytes) -> dict[str, Any]:
        may_go_on.wait(10)
        fields = parse_object(body)
        checked.append(fields["user"])
        return fields

    async def ask_all() -> list[int]:
        async def post(name: str) -> int:
            body = json.dumps(BODY | {"messages": HELLO, "user": name})
            headers = JSON | {"authorization": f"Bearer {name}"}
            return (await client.post(CHAT, content=body, headers=headers)).status_code

        asking = [asyncio.create_task(post(name)) for name in ["many"] * 5 + ["one"]]
        for _ in range(500):  # turns of the event loop: all have come to where they wait
            await asyncio.sleep(0)
        may_go_on.set()
        return await asyncio.gather(*asking)

    monkeypatch.setattr("app.api.body._MAX_INLINE_BYTES", 10)
    monkeypatch.setattr("app.api.body.parse_object", note)
    assert asyncio.run(ask_all()) == [200] * 6
    assert checked.index("one") == 1


def test_a_body_that_never_ends_is_cut_off(client: httpx.AsyncClient) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b'{"model":'
        await asyncio.sleep(5)
        yield b'"x"}'

    answer = ask(client, "POST", CHAT, content=slow(), headers=JSON)
    assert answer.status_code == 408
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_over_the_limit_is_a_413(client: httpx.AsyncClient, declared: bool) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b" " * 1000

    content = b" " * 10_000 if declared else chunks()
    answer = ask(client, "POST", CHAT, content=content, headers=JSON)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"


@pytest.mark.parametrize(("length", "status"), [("0" * 5000 + "19", 200), ("1" + "0" * 19, 413)])
def test_a_length_of_any_number_of_digits_is_read(
    client: httpx.AsyncClient, length: str, status: int
) -> None:
    headers = {"content-type": "application/json", "content-length": length}
    answer = ask(client, "POST", CHAT, content=b'{"model":"bundled"}', headers=headers)
    assert answer.status_code == status


def test_a_refusal_that_leaves_a_body_unread_closes_the_connection(
    client: httpx.AsyncClient,
) -> None:
    unread = ask(client, "POST", CHAT, json=BODY, headers={"authorization": "Bearer sk-wrong"})
    assert unread.status_code == 401
    assert unread.headers["connection"] == "close"
    for read in (
        ask(client, "POST", CHAT, json={"model": 5}),
        ask(client, "GET", "/v1/models", headers={"authorization": "Bearer sk-wrong"}),
    ):
        assert 400 <= read.status_code < 500
        assert "connection" not in read.headers


def test_a_quiet_stream_gets_comments_that_are_no_tokens(
    app: FastAPI, engine: Any, client: httpx.AsyncClient
) -> None:
    from fastapi.responses import StreamingResponse

    async def produce() -> AsyncIterator[str]:
        meter = current_meter.get()
        assert meter is not None
        yield "data: announced\n\n"
        meter.has_begun = True
        yield "data: 1\n\n"
        await asyncio.sleep(1)  # twenty times as long as may pass in silence
        yield "data: 2\n\n"
        yield "data: [DONE]\n\n"

    async def script(_: Any) -> Any:
        return StreamingResponse(produce(), media_type="text/event-stream")

    engine.script = script
    text = ask(client, "POST", CHAT, json=BODY).text
    assert text.count(": keep-alive\n\n") >= 2
    assert text.replace(": keep-alive\n\n", "") == (
        "data: announced\n\ndata: 1\n\ndata: 2\n\ndata: [DONE]\n\n"
    )
    metrics = ask(client, "GET", "/metrics").text
    assert 'gateway_inter_token_latency_seconds_count{route="/v1/chat/completions"} 1.0' in metrics


def test_requests_in_hand_are_counted_while_they_run(
    client: httpx.AsyncClient, engine: Any, state: ServiceState
) -> None:
    seen: list[int] = []

    async def script(_: Any) -> Any:
        seen.append(state.num_running)
        raise RuntimeError("fails")

    engine.script = script
    ask(client, "POST", CHAT, json=BODY)
    assert seen == [1]
    assert state.num_running == 0


def test_a_client_that_leaves_is_no_success(client: httpx.AsyncClient, app: Any) -> None:
    """vLLM's routes give up a request whose client has left, and FastAPI then answers `null`."""
    body = [{"type": "http.request", "body": b'{"model": "x"}', "more_body": False}]

    async def leaving(request: Any) -> None:
        assert (await request.receive())["type"] == "http.disconnect"

    app.state.resources.engine.script = leaving

    async def receive() -> Any:
        return body.pop() if body else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        pass

    headers = [(b"authorization", b"Bearer sk-unit"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": CHAT, "raw_path": CHAT.encode()}
    scope |= {"query_string": b"", "headers": headers}
    asyncio.run(app(scope, receive, send))
    text = ask(client, "GET", "/metrics").text
    assert f'gateway_requests_total{{key="unit",route="{CHAT}",status="499"}} 1.0' in text
