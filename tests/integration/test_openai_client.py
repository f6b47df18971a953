"""The official `openai` client against the shipped command, over HTTP."""

import json
from typing import Any

import openai
import pytest

from tests.integration.gateway_process import SECRET, GatewayProcess

MODEL = "bundled"
QUESTION: list[Any] = [{"role": "user", "content": "What is 12 + 5?"}]
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Get the weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
]


@pytest.fixture
def api(gateway: GatewayProcess) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=SECRET, max_retries=0)


def test_a_chat_is_answered_with_its_usage(api: openai.OpenAI) -> None:
    answer = api.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0)
    assert answer.choices[0].message.content == "17"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_streamed_chat_says_the_same_and_ends_with_usage(api: openai.OpenAI) -> None:
    chunks = list(
        api.chat.completions.create(
            model=MODEL,
            messages=QUESTION,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "17"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_completions_stream_and_not_give_the_same_text(api: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": MODEL,
        "prompt": "What is 1",
        "max_tokens": 8,
        "temperature": 0,
    }
    whole = api.completions.create(**asked)
    parts = api.completions.create(**asked, stream=True)
    assert "".join(part.choices[0].text for part in parts) == whole.choices[0].text
    assert whole.usage is not None
    assert whole.usage.completion_tokens <= 8


def test_responses_stream_and_not(api: openai.OpenAI) -> None:
    whole = api.responses.create(model=MODEL, input="What is 12 + 5?", temperature=0)
    assert whole.output_text == "17"
    events = list(
        api.responses.create(model=MODEL, input="What is 12 + 5?", temperature=0, stream=True)
    )
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    assert (
        "".join(event.delta for event in events if event.type == "response.output_text.delta")
        == "17"
    )


def test_an_offered_function_is_called_by_the_models_own_choice(api: openai.OpenAI) -> None:
    question: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
    answer = api.chat.completions.create(
        model=MODEL, messages=question, tools=TOOLS, tool_choice="auto", temperature=0
    )
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert list(json.loads(call.function.arguments)) == ["city"]
    assert answer.choices[0].finish_reason == "tool_calls"


def test_a_named_function_is_called_streaming(api: openai.OpenAI) -> None:
    chunks = api.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "What is the weather in Rome?"}],
        tools=TOOLS,
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        stream=True,
        temperature=0,
        max_tokens=200,
    )
    calls = [
        call
        for chunk in chunks
        if chunk.choices
        for call in chunk.choices[0].delta.tool_calls or []
    ]
    assert calls[0].function is not None
    assert calls[0].function.name == "get_weather"
    arguments = "".join(call.function.arguments or "" for call in calls if call.function)
    assert "city" in json.loads(arguments)


def test_a_json_schema_is_kept_to(api: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"answer": {"type": "integer"}},
        "required": ["answer"],
        "additionalProperties": False,
    }
    answer = api.chat.completions.create(
        model=MODEL,
        messages=QUESTION,
        temperature=0,
        max_tokens=64,
        response_format={"type": "json_schema", "json_schema": {"name": "sum", "schema": schema}},
    )
    content = json.loads(answer.choices[0].message.content or "")
    assert set(content) == {"answer"}
    assert isinstance(content["answer"], int)


def test_logprobs_n_seed_and_stop(api: openai.OpenAI) -> None:
    answer = api.chat.completions.create(
        model=MODEL, messages=QUESTION, n=3, seed=7, temperature=1, logprobs=True, top_logprobs=2
    )
    assert len(answer.choices) == 3
    content = answer.choices[0].logprobs and answer.choices[0].logprobs.content
    assert content
    assert len(content[0].top_logprobs) == 2
    again = api.chat.completions.create(model=MODEL, messages=QUESTION, n=3, seed=7, temperature=1)
    assert [c.message.content for c in again.choices] == [c.message.content for c in answer.choices]
    stopped = api.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0, stop=["7"])
    assert stopped.choices[0].message.content == "1"


def test_models_are_listed_and_found_by_id(api: openai.OpenAI) -> None:
    assert [model.id for model in api.models.list()] == [MODEL]
    assert api.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError):
        api.models.retrieve("someone/else")


def test_errors_have_openais_shape(api: openai.OpenAI, gateway: GatewayProcess) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        api.chat.completions.create(model="nope", messages=QUESTION)
    assert unknown.value.code == "model_not_found"
    stranger = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="sk-wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError) as refused:
        stranger.models.list()
    assert refused.value.code == "invalid_api_key"
    assert refused.value.response.headers["www-authenticate"].startswith("Bearer")
