import asyncio
import json
from typing import Any

import httpx
import pytest
from fastapi import Request

from app.core.envelopes import MAX_ERROR_BYTES
from app.core.errors import Unavailable
from tests.unit.api.conftest import ScriptedEngine, foreign_error, stream_of

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
BODY = {"model": "bundled"}


def post(
    client: httpx.AsyncClient, path: str = CHAT, body: Any = BODY, **more: Any
) -> httpx.Response:
    return asyncio.run(client.post(path, json=body, **more))


def play(engine: ScriptedEngine, make: Any) -> None:
    async def script(_: Request) -> Any:
        answer = make()
        if isinstance(answer, Exception):
            raise answer
        return answer

    engine.script = script


def test_a_foreign_error_is_worded_anew_with_a_string_code(
    client: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    play(engine, lambda: foreign_error(400, "bad thing (parameter=top_p, value=7)"))
    error = post(client).json()["error"]
    assert error == {
        "message": "bad thing",
        "type": "invalid_request_error",
        "param": "top_p",
        "code": "invalid_request",
    }


def test_a_foreign_error_on_messages_gets_anthropics_envelope(
    client: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    play(engine, lambda: foreign_error(404, "The model `x` does not exist."))
    body = post(client, MESSAGES).json()
    assert body["type"] == "error"
    assert body["error"]["type"] == "not_found_error"


def test_a_server_error_says_nothing_of_the_inside(
    client: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    for make in (
        lambda: foreign_error(500, 'File "/usr/lib/x.py", line 3, secret'),
        lambda: RuntimeError("secret"),
    ):
        play(engine, make)
        answer = post(client)
        assert answer.status_code == 500
        assert "secret" not in answer.text


def test_an_overload_carries_retry_after(client: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    play(engine, lambda: foreign_error(503, "The engine is currently busy."))
    answer = post(client)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("text", ["x" * 1_000_000, "é" * 1_000_000, "\x00" * 5000, '"' * 5000])
def test_no_error_is_larger_than_the_bound(
    client: httpx.AsyncClient, engine: ScriptedEngine, text: str
) -> None:
    play(engine, lambda: foreign_error(400, text[:20_000]))
    for path in (CHAT, MESSAGES):
        answer = post(client, path)
        assert answer.status_code == 400
        assert len(answer.content) <= MAX_ERROR_BYTES


def test_a_stream_that_fails_before_its_first_event_has_a_status(
    client: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    early = 'data: {"error": {"message": "too long", "code": 400}}\n\n'
    play(engine, lambda: stream_of(early, "data: [DONE]\n\n"))
    answer = post(client)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["error"]["message"] == "too long"
    play(engine, lambda: stream_of(error=Unavailable("later", retry_after_s=3)))
    answer = post(client)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "3"


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
def test_a_stream_that_fails_later_ends_with_an_error_event(
    client: httpx.AsyncClient, engine: ScriptedEngine, path: str
) -> None:
    play(engine, lambda: stream_of("data: {}\n\n", error=Unavailable("gone", code="engine_dead")))
    answer = post(client, path)
    assert answer.status_code == 200
    last = answer.text.replace("data: [DONE]", "").strip().rpartition("\n\n")[2]
    event = json.loads(last.partition("data: ")[2])
    assert event["error"]["message"] == "gone"
    assert last.startswith("event: error\n") == (path == MESSAGES)


def test_vllms_error_event_in_a_stream_gets_our_envelope(
    client: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    late = 'data: {"error": {"message": "secret trace", "type": "X", "code": 500}}\n\n'
    play(engine, lambda: stream_of("data: {}\n\n", late, "data: [DONE]\n\n"))
    events = post(client).text.split("\n\n")
    error = json.loads(events[1].removeprefix("data: "))["error"]
    assert error["code"] == "internal_error"
    assert "secret" not in error["message"]
    assert events[2] == "data: [DONE]"


def test_a_request_that_is_cut_off_at_shutdown_is_told_so(
    app: Any, engine: ScriptedEngine, client: httpx.AsyncClient
) -> None:
    async def hang(_: Request) -> Any:
        await asyncio.sleep(60)

    engine.script = hang

    async def cancelled() -> httpx.Response:
        sent: list[Any] = []
        scope = {
            "type": "http",
            "method": "POST",
            "path": CHAT,
            "raw_path": CHAT.encode(),
            "query_string": b"",
            "headers": [
                (b"authorization", b"Bearer sk-unit"),
                (b"content-type", b"application/json"),
            ],
        }
        body = [{"type": "http.request", "body": b'{"model": "x"}', "more_body": False}]

        async def receive() -> Any:
            return body.pop() if body else await asyncio.sleep(60)

        async def send(message: Any) -> None:
            sent.append(message)

        task = asyncio.create_task(app(scope, receive, send))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.wait({task})
        return httpx.Response(sent[0]["status"], content=sent[1]["body"])

    answer = asyncio.run(cancelled())
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "stopped"
