"""One trace from a client through the gateway to the engine, at a real OTLP receiver."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.faults.waiting import wait_for
from tests.integration.gateway_process import GatewayProcess, running_gateway
from tests.integration.otlp_receiver import Receiver, Span, running_receiver
from tests.integration.test_simulated_executor import EXTRA

SECRET_WORD = "Tangerine"
MESSAGES = [{"role": "user", "content": f"{SECRET_WORD}?"}]
CLIENT_SPAN = "00f067aa0ba902b7"
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": MESSAGES}),
    ("/v1/chat/completions", {"messages": MESSAGES, "stream": True}),
    ("/v1/completions", {"prompt": SECRET_WORD}),
    ("/v1/completions", {"prompt": SECRET_WORD, "stream": True}),
    ("/v1/responses", {"input": SECRET_WORD}),
    ("/v1/messages", {"messages": MESSAGES, "max_tokens": 5}),
    ("/v1/messages", {"messages": MESSAGES, "max_tokens": 5, "stream": True}),
]


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


@pytest.fixture(scope="module")
def traced(
    tmp_path_factory: pytest.TempPathFactory, receiver: Receiver
) -> Iterator[GatewayProcess]:
    settings = (
        f"engine.extra_args={EXTRA}",
        "model.allow_unquantized=true",
        f"tracing.otlp_endpoint={receiver.address}",
    )
    with running_gateway(tmp_path_factory.mktemp("traced"), *settings) as running:
        running.wait_ready()
        yield running


def ask(gateway: GatewayProcess, path: str, body: dict[str, Any], trace: str) -> int:
    headers = {"traceparent": f"00-{trace}-{CLIENT_SPAN}-01"}
    with gateway.client() as client:
        answer = client.post(path, json={"model": "bundled", **body}, headers=headers)
    return answer.status_code


def wait_for_trace(receiver: Receiver, trace: str, num_spans: int) -> list[Span]:
    """An exporter sends every five seconds."""

    def spans() -> list[Span]:
        return [span for span in receiver.spans() if span.trace_id == trace]

    wait_for(lambda: len(spans()) >= num_spans, f"the spans of {trace} do not come")
    return spans()


def test_each_api_gives_one_trace_from_the_client_to_the_engine(
    traced: GatewayProcess, receiver: Receiver
) -> None:
    for number, (path, body) in enumerate(REQUESTS, 1):
        assert ask(traced, path, body, f"{number:032x}") == 200
    for number, (path, _) in enumerate(REQUESTS, 1):
        spans = {span.name: span for span in wait_for_trace(receiver, f"{number:032x}", 2)}
        ours, engines = spans[f"POST {path}"], spans["llm_request"]
        assert ours.parent_id == CLIENT_SPAN
        assert engines.parent_id == ours.span_id
        assert ours.attributes["http.response.status_code"] == 200
        for tokens, mine, theirs in (
            ("prompt", "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
            ("completion", "gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
        ):
            assert ours.attributes[mine] == engines.attributes[theirs], tokens


def test_nothing_that_was_said_is_in_a_span(traced: GatewayProcess, receiver: Receiver) -> None:
    assert ask(traced, *REQUESTS[0], trace="a" * 32) == 200
    wait_for_trace(receiver, "a" * 32, 2)
    sent = b"".join(receiver.raw)
    assert SECRET_WORD.encode() not in sent
    assert b"sk-test" not in sent


def test_the_last_spans_are_handed_over_before_the_service_ends(
    traced: GatewayProcess, receiver: Receiver
) -> None:
    assert ask(traced, *REQUESTS[0], trace="b" * 32) == 200
    assert traced.stop() == 0
    assert len([span for span in receiver.spans() if span.trace_id == "b" * 32]) == 2
