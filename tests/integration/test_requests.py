"""What is refused, how it is said, and what becomes of a request whose client leaves."""

import json
import socket
from typing import Any

import httpx
import pytest

from app.core.envelopes import MAX_ERROR_BYTES
from tests.faults.waiting import wait_for
from tests.integration.gateway_process import SECRET, GatewayProcess

CHAT = "/v1/chat/completions"
QUESTION = [{"role": "user", "content": "What is 12 + 5?"}]
JSON = {"content-type": "application/json"}


def ask(**fields: Any) -> dict[str, Any]:
    return {"model": "bundled", "messages": QUESTION} | fields


def error_of(answer: httpx.Response) -> dict[str, Any]:
    assert len(answer.content) <= MAX_ERROR_BYTES
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["code"], str)
    return error


def test_an_unknown_model_is_a_404(client: httpx.Client) -> None:
    for path, body in ((CHAT, ask()), ("/v1/completions", {"prompt": "hi"})):
        answer = client.post(path, json=body | {"model": "nope"})
        assert answer.status_code == 404
        assert error_of(answer)["code"] == "model_not_found"


@pytest.mark.parametrize("stream", [False, True])
def test_prompt_and_completion_beyond_the_context_are_a_400_with_the_numbers(
    client: httpx.Client, stream: bool
) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        answer = client.post(CHAT, json=ask(stream=stream, **{name: 4090}))
        assert answer.status_code == 400
        error = error_of(answer)
        assert error["code"] == "context_length_exceeded"
        assert error["param"] == name
        assert "4096" in error["message"]
        assert "4090" in error["message"]


def test_a_prompt_beyond_the_context_is_a_400_with_the_numbers(client: httpx.Client) -> None:
    long = [{"role": "user", "content": "What is 1 + 1? " * 2000}]
    answer = client.post(CHAT, json=ask(messages=long))
    assert answer.status_code == 400
    assert "4096" in error_of(answer)["message"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": "many"}, "max_tokens"),
        ({"messages": "hi"}, "messages"),
        ({"temperature": [1]}, "temperature"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        ({"stream": True, "stream_options": {"include_usage": 7}}, "stream_options.include_usage"),
        ({"n": 0}, "n"),
        ({"temperature": -1}, "temperature"),
        ({"request_id": "mine"}, "request_id"),
    ],
)
def test_a_wrong_value_is_a_400_that_names_the_field(
    client: httpx.Client, fields: dict[str, Any], param: str
) -> None:
    answer = client.post(CHAT, json=ask(**fields))
    assert answer.status_code == 400
    assert error_of(answer)["param"] == param


def test_a_missing_field_is_named(client: httpx.Client) -> None:
    answer = client.post(CHAT, json={"model": "bundled"})
    assert answer.status_code == 400
    assert error_of(answer)["param"] == "messages"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"model": }',
        b"[]",
        b'"text"',
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": 1, "a": 2}',
        b'{"a": "\xff"}',
        b'{"a": "\\ud800"}',
        b"[" * 100_000,
        b'{"a":' * 100 + b"1" + b"}" * 100,
    ],
)
def test_malformed_json_is_a_400_in_the_envelope(client: httpx.Client, body: bytes) -> None:
    answer = client.post(CHAT, content=body, headers=JSON)
    assert answer.status_code == 400
    assert error_of(answer)["type"] == "invalid_request_error"


def test_a_body_of_another_type_or_encoding_is_a_415(client: httpx.Client) -> None:
    body = json.dumps(ask()).encode()
    for headers in (
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        JSON | {"content-encoding": "gzip"},
    ):
        answer = client.post(CHAT, content=body, headers=headers)
        assert answer.status_code == 415
        error_of(answer)


def test_a_declared_length_that_is_too_large_is_a_413_before_any_byte(
    gateway: GatewayProcess,
) -> None:
    address = httpx.URL(gateway.url)
    with socket.create_connection((address.host, address.port or 0), timeout=10) as sock:
        head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {9 << 20}\r\n\r\n"
        sock.sendall(head.encode())
        assert sock.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_body_that_is_too_large_is_a_413_before_it_is_read_whole(
    gateway: GatewayProcess,
) -> None:
    sent = 0

    def endless() -> Any:
        nonlocal sent
        while sent < 64 << 20:
            sent += 1 << 16
            yield b" " * (1 << 16)

    with gateway.client() as client:
        try:
            answer = client.post(CHAT, content=endless(), headers=JSON)
            assert answer.status_code == 413
            assert error_of(answer)["code"] == "request_too_large"
        except httpx.WriteError:
            pass  # it was cut off while we were still sending
    assert sent < 64 << 20


def test_errors_of_messages_have_anthropics_envelope(client: httpx.Client) -> None:
    answer = client.post("/v1/messages", json={"model": "bundled", "messages": QUESTION})
    assert answer.status_code == 400
    assert answer.json()["type"] == "error"
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert "max_tokens" in answer.json()["error"]["message"]
    unknown = client.post("/v1/messages", content=b"{", headers=JSON)
    assert unknown.json()["error"]["type"] == "invalid_request_error"


def test_an_error_never_echoes_its_input_at_length(client: httpx.Client) -> None:
    huge = "A" * 1_000_000
    for body in (ask(model=huge), ask(temperature=huge), ask(messages=[{"role": huge}])):
        answer = client.post(CHAT, json=body)
        assert 400 <= answer.status_code < 500
        error_of(answer)


def test_responses_are_stateless(client: httpx.Client) -> None:
    for name, value in (("background", True), ("previous_response_id", "resp_1")):
        answer = client.post("/v1/responses", json={"model": "bundled", "input": "hi", name: value})
        assert answer.status_code == 400
        assert error_of(answer)["param"] == name
    assert client.get("/v1/responses/resp_1").status_code == 501
    assert client.post("/v1/responses/resp_1/cancel").status_code == 501


def test_tokenize_and_detokenize_are_each_others_inverse(client: httpx.Client) -> None:
    asked = {"model": "bundled", "prompt": "What is 12 + 5?", "add_special_tokens": False}
    tokens = client.post("/tokenize", json=asked).json()["tokens"]
    back = client.post("/detokenize", json={"model": "bundled", "tokens": tokens}).json()
    assert back["prompt"] == "What is 12 + 5?"


def test_the_request_id_is_ours_inside_and_the_clients_is_only_recorded(
    client: httpx.Client, gateway: GatewayProcess
) -> None:
    answer = client.post(CHAT, json=ask(), headers={"x-request-id": "theirs-42"})
    ours = answer.headers["x-request-id"]
    assert answer.json()["id"] == f"chatcmpl-{ours}"

    def lines() -> list[dict[str, Any]]:
        return [each for each in gateway.log() if each.get("request_id") == ours]

    wait_for(lambda: bool(lines()), "not logged")  # it is when the answer is out
    (line,) = lines()
    assert line["client_request_id"] == "theirs-42"


def test_headers_that_reach_into_the_engine_change_nothing(client: httpx.Client) -> None:
    plain = client.post(CHAT, json=ask(temperature=0)).json()["choices"][0]["message"]
    reaching = {
        "x-vllm-priority": "not a number",
        "x-data-parallel-rank": "99",
        "x-session-id": "s",
    }
    answer = client.post(CHAT, json=ask(temperature=0), headers=reaching)
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"] == plain


def wait_for_idle_engine(client: httpx.Client) -> None:
    def is_idle() -> bool:
        return bool(client.get("/admin/status").json()["queue"]["unfinished"] == 0)

    wait_for(is_idle, "the engine still works on a request that nobody waits for")


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_takes_its_work_along(gateway: GatewayProcess, stream: bool) -> None:
    endless = ask(stream=stream, max_tokens=4000, ignore_eos=True)
    with gateway.client() as watcher:
        wait_for_idle_engine(watcher)
        with gateway.client(timeout=0.7) as leaving, pytest.raises(httpx.ReadTimeout):
            if stream:
                with leaving.stream("POST", CHAT, json=endless) as answer:
                    events = answer.iter_bytes()  # closing it would leave too early
                    assert next(events)
                    assert watcher.get("/admin/status").json()["queue"]["unfinished"] == 1
                    raise httpx.ReadTimeout("the client leaves")
            leaving.post(CHAT, json=endless)
        wait_for_idle_engine(watcher)


def test_a_prompt_a_completion_and_a_key_are_never_logged(
    client: httpx.Client, gateway: GatewayProcess
) -> None:
    marked = [{"role": "user", "content": "zebra-prompt-mark"}]
    client.post(CHAT, json=ask(messages=marked, user="zebra-user-mark"))
    client.post(CHAT, json=ask(messages=marked, max_tokens="zebra-value-mark"))
    client.post(CHAT, content=b'{"zebra-broken-mark', headers=JSON)
    text = gateway.log_file.read_text()
    assert "zebra" not in text
    assert SECRET not in text
