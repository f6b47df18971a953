"""The tracked tokenizer and chat template, through the libraries that the engine uses."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

MODEL = Path(__file__).parents[3] / "models" / "bundled" / "bf16"
TOKENIZER = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
SPECIAL = [token.content for token in TOKENIZER.get_added_tokens_decoder().values()]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


def tokens(text: str) -> list[str]:
    ids = TOKENIZER.encode(text, add_special_tokens=False).ids
    return [TOKENIZER.decode([one], skip_special_tokens=False) for one in ids]


def render(messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None) -> str:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value, **options: json.dumps(value, **options)
    template = environment.from_string((MODEL / "chat_template.jinja").read_text())
    return template.render(
        messages=messages, tools=tools, bos_token="<|begin_of_text|>", add_generation_prompt=True
    )


@given(st.text().filter(lambda text: not any(special in text for special in SPECIAL)))
def test_any_text_survives_encoding_and_decoding(text: str) -> None:
    ids = TOKENIZER.encode(text, add_special_tokens=False).ids
    assert TOKENIZER.decode(ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("number", ["7", "42", "1999", "-3.14"])
def test_digits_stay_apart(number: str) -> None:
    assert tokens(number) == list(number)


def test_llama_3_special_tokens_are_one_token_each() -> None:
    assert {
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eom_id|>",
        "<|eot_id|>",
        "<|python_tag|>",
    } <= set(SPECIAL)
    assert all(tokens(special) == [special] for special in SPECIAL)


def test_the_vocabulary_is_the_models() -> None:
    config = json.loads((MODEL / "config.json").read_text())
    assert TOKENIZER.get_vocab_size() == config["vocab_size"]


def test_generation_ends_at_every_end_token() -> None:
    generation = json.loads((MODEL / "generation_config.json").read_text())
    ends = {TOKENIZER.id_to_token(one) for one in generation["eos_token_id"]}
    assert ends == {"<|eot_id|>", "<|end_of_text|>", "<|eom_id|>"}


def test_a_plain_question_has_no_system_turn() -> None:
    assert render([{"role": "user", "content": " Hi "}]) == (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def test_functions_are_offered_as_compact_json_after_the_system_prompt() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    system = render(messages, [WEATHER]).split("<|eot_id|>")[0]
    assert system.endswith(
        "Be brief.\nFunctions:\n"
        '{"name":"get_weather","description":"Get the weather.","parameters":'
        '{"type":"object","properties":{"city":{"type":"string"}}}}'
    )


@pytest.mark.parametrize("arguments", [{"city": "Paris"}, '{"city": "Paris"}'])
def test_a_call_and_its_result_are_turns(arguments: object) -> None:
    call = {"type": "function", "function": {"name": "get_weather", "arguments": arguments}}
    text = render(
        [
            {"role": "user", "content": "What is the weather in Paris?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": "rain"},
        ],
        [WEATHER],
    )
    assert (
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
        '{"name": "get_weather", "parameters": {"city": "Paris"}}<|eot_id|>'
        "<|start_header_id|>ipython<|end_header_id|>\n\nrain<|eot_id|>"
    ) in text
