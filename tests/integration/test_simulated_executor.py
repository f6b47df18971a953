"""The simulated executor behind the shipped command, with real requests."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.__main__ import main
from app.engine.simulated_answers import TEXT
from tests.integration.gateway_process import SECRET, GatewayProcess, running_gateway

DEVICE = {"simulated_device": {"step_ms": 8, "token_us": 0, "answer_tokens": 30}}
EXTRA = (
    "--distributed-executor-backend app.engine.simulated.SimulatedExecutor "
    f"--additional-config '{json.dumps(DEVICE)}'"
)
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "count": {"type": "integer"},
        "kind": {"enum": ["red", "blue"]},
    },
    "required": ["name", "count", "kind"],
}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("simulated")
    settings = (f"engine.extra_args={EXTRA}", "model.allow_unquantized=true")
    with running_gateway(folder, *settings) as running:
        running.wait_ready()
        yield running


def ask(gateway: GatewayProcess, question: str, **options: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}]
    body = {"model": "bundled", "messages": messages, **options}
    with gateway.client() as client:
        response = client.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    choice: dict[str, Any] = response.json()["choices"][0]
    return choice


def test_the_same_question_gets_the_same_stretch_of_the_text(simulated: GatewayProcess) -> None:
    first, again = (ask(simulated, "Which ship?", max_tokens=20) for _ in range(2))
    content = first["message"]["content"]
    assert content == again["message"]["content"]
    assert content in TEXT + TEXT
    assert ask(simulated, "Which ship?", max_tokens=20, seed=7)["message"]["content"] != content


def test_an_answer_ends_by_itself_unless_told_not_to(simulated: GatewayProcess) -> None:
    assert ask(simulated, "How long?", max_tokens=60)["finish_reason"] == "stop"
    endless = ask(simulated, "How long?", max_tokens=60, ignore_eos=True)
    assert endless["finish_reason"] == "length"


def test_a_structured_answer_keeps_to_its_schema(simulated: GatewayProcess) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "thing", "schema": SCHEMA}}
    answer = ask(simulated, "A thing, please.", response_format=form, max_tokens=100)
    thing = json.loads(answer["message"]["content"])
    assert set(thing) == {"name", "count", "kind"}
    assert thing["kind"] in ("red", "blue")


def test_nobody_takes_it_for_a_quantized_model(simulated: GatewayProcess) -> None:
    with simulated.client() as client:
        assert client.get("/admin/status").json()["quantization"]["scheme"] == "none"


def test_many_streams_at_once_are_all_served(simulated: GatewayProcess, tmp_path: Path) -> None:
    key_file, report = tmp_path / "key", tmp_path / "report.json"
    key_file.write_text(SECRET)
    load = ["--requests", "96", "--concurrency", "48", "--output-tokens", "24", "--no-one-by-one"]
    target = ["--url", simulated.url, "--key-file", str(key_file), "--json", str(report)]
    assert main(["bench", *target, *load]) == 0
    (row,) = json.loads(report.read_text())["medians"]
    assert row["output_tokens"] == 96 * 24


@pytest.mark.parametrize("more", [{}, {"stop": ["the"]}, {"max_tokens": 1}, {"seed": 3}])
def test_a_plain_stream_and_vllms_own_say_the_same(
    simulated: GatewayProcess, more: dict[str, Any]
) -> None:
    plain = read_stream(simulated, **more)
    assert plain == read_stream(simulated, response_format={"type": "text"}, **more)
    assert plain["text"]
    assert plain["usage"]["completion_tokens"] > 0


def read_stream(gateway: GatewayProcess, **options: Any) -> dict[str, Any]:
    """The whole text, and the chunks by their form: which tokens share one is left to chance where
    the machine is busy, as vLLM merges what a stream has not taken yet."""
    body = {
        "model": "bundled",
        "messages": [{"role": "user", "content": "Which ship?"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        **options,
    }
    with gateway.client() as client:
        response = client.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    *events, usage, done = response.text.removesuffix("\n\n").split("\n\n")
    assert done == "data: [DONE]"
    content = re.compile(r'"content":("(?:[^"\\]|\\.)*")')
    return {
        "text": "".join(json.loads(text) for event in events for text in content.findall(event)),
        "forms": {fixed(content.sub('"content":0', event)) for event in events},
        "last": fixed(content.sub("", events[-1])),
        "usage": json.loads(usage.removeprefix("data: "))["usage"],
    }


def fixed(event: str) -> str:
    """An event without what differs from request to request."""
    return re.sub(r'"(id|created)":("[^"]*"|\d+)', r'"\1":0', event)


def test_a_client_that_leaves_a_stream_frees_its_request(simulated: GatewayProcess) -> None:
    body = {
        "model": "bundled",
        "messages": [{"role": "user", "content": "Which ship?"}],
        "stream": True,
        "max_tokens": 400,
        "ignore_eos": True,
    }
    with (
        simulated.client() as client,
        client.stream("POST", "/v1/chat/completions", json=body) as response,
    ):
        next(response.iter_lines())
    give_up_s = time.monotonic() + 30
    with simulated.client() as client:
        while client.get("/admin/status").json()["queue"]["unfinished"]:
            assert time.monotonic() < give_up_s
            time.sleep(0.02)
