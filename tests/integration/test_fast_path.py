"""Plain streams of the real engine, beside the same answers in one piece."""

import json
from typing import Any

import httpx
import pytest

CHAT = "/v1/chat/completions"
QUESTION = "What is 37 + 5? Then count from one to twenty, please."
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": QUESTION}]},
    "/v1/completions": {"prompt": QUESTION},
}


def whole(client: httpx.Client, path: str, body: dict[str, Any]) -> tuple[str, Any, Any]:
    """Text, reason of the end and usage of an answer in one piece."""
    answer = client.post(path, json=body).raise_for_status().json()
    choice = answer["choices"][0]
    text = choice["message"]["content"] if path == CHAT else choice["text"]
    return text or "", choice["finish_reason"], answer["usage"]


def streamed(client: httpx.Client, path: str, body: dict[str, Any]) -> tuple[str, Any, Any]:
    more = {"stream": True, "stream_options": {"include_usage": True}}
    text, reason, usage = "", None, None
    with client.stream("POST", path, json=body | more) as answer:
        events = [line[6:] for line in answer.iter_lines() if line.startswith("data: ")]
    assert events.pop() == "[DONE]"
    for event in map(json.loads, events):
        usage = event.get("usage") or usage
        for choice in event["choices"]:
            text += (choice["delta"].get("content") if path == CHAT else choice["text"]) or ""
            reason = choice["finish_reason"] or reason
    return text, reason, usage


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "more",
    [
        {"max_tokens": 40, "ignore_eos": True},
        {"max_tokens": 1},
        {"max_tokens": 40, "ignore_eos": True, "stop": ["e", "42"]},
        {"max_tokens": 40, "ignore_eos": True, "stop": ["4"], "include_stop_str_in_output": True},
        {"max_tokens": 60, "ignore_eos": True, "temperature": 2.0, "seed": 7},
    ],
)
def test_a_stream_says_what_the_whole_answer_says(
    client: httpx.Client, path: str, more: dict[str, Any]
) -> None:
    body = {"model": "bundled", "temperature": 0} | BODIES[path] | more
    text, reason, usage = streamed(client, path, body)
    expected, expected_reason, expected_usage = whole(client, path, body)
    assert (text, reason) == (expected, expected_reason)
    assert usage["completion_tokens"] == expected_usage["completion_tokens"]
    assert usage["prompt_tokens"] == expected_usage["prompt_tokens"]
