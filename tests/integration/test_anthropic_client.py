"""The official `anthropic` client against the shipped command, over HTTP."""

from typing import Any

import anthropic
import pytest

from tests.integration.gateway_process import SECRET, GatewayProcess

QUESTION: list[Any] = [{"role": "user", "content": "What is 12 + 5?"}]


GREEDY = {"temperature": 0}  # the client no longer names it


@pytest.fixture
def api(gateway: GatewayProcess) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=gateway.url, api_key=SECRET, max_retries=0)


def test_a_message_is_answered(api: anthropic.Anthropic) -> None:
    answer = api.messages.create(
        model="bundled", max_tokens=20, messages=QUESTION, extra_body=GREEDY
    )
    assert answer.content[0].type == "text"
    assert answer.content[0].text == "17"
    assert answer.stop_reason == "end_turn"
    assert answer.usage.output_tokens > 0


def test_a_streamed_message_says_the_same(api: anthropic.Anthropic) -> None:
    with api.messages.stream(
        model="bundled", max_tokens=20, messages=QUESTION, extra_body=GREEDY
    ) as stream:
        assert "".join(stream.text_stream) == "17"


def test_tokens_are_counted_without_generating(api: anthropic.Anthropic) -> None:
    counted = api.messages.count_tokens(model="bundled", messages=QUESTION)
    answer = api.messages.create(model="bundled", max_tokens=1, messages=QUESTION)
    assert counted.input_tokens == answer.usage.input_tokens


def test_errors_have_anthropics_shape(api: anthropic.Anthropic, gateway: GatewayProcess) -> None:
    with pytest.raises(anthropic.NotFoundError) as unknown:
        api.messages.create(model="nope", max_tokens=5, messages=QUESTION)
    body: Any = unknown.value.body
    assert body["type"] == "error"
    assert body["error"]["type"] == "not_found_error"
    with pytest.raises(anthropic.BadRequestError) as too_long:
        api.messages.create(model="bundled", max_tokens=4096, messages=QUESTION)
    assert "4096" in str(too_long.value)
    stranger = anthropic.Anthropic(base_url=gateway.url, api_key="sk-wrong", max_retries=0)
    with pytest.raises(anthropic.AuthenticationError):
        stranger.messages.create(model="bundled", max_tokens=5, messages=QUESTION)
