import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import InvalidRequest, SettingsError
from app.core.key_limits import Limits
from app.core.limits import parse_open_fields
from app.core.request_fields import OPENABLE, STRUCTURAL_TAG, TABLES
from app.core.request_rules import RequestRules
from tests.unit.limits import DEFAULT_LIMITS

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
MESSAGES, TOKENIZE, DETOKENIZE = "/v1/messages", "/tokenize", "/detokenize"
RULES = RequestRules(DEFAULT_LIMITS)


def rules(**changes: Any) -> RequestRules:
    return RequestRules(dataclasses.replace(DEFAULT_LIMITS, **changes))


def refused(template: str, body: dict[str, Any], by: RequestRules = RULES) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        by.check(template, body, 100)
    return caught.value


def user(content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


@pytest.mark.parametrize("template", TABLES)
def test_every_guarded_field_is_refused_by_name_until_a_setting_opens_it(template: str) -> None:
    for name in TABLES[template].guarded:
        error = refused(template, {name: 7})
        assert (error.param, error.code) == (name, "unsupported_parameter")
        assert RULES.check(template, {name: None}, 9) == {}
        opened = rules(open_fields=frozenset({name}))
        assert opened.check(template, {name: 7}, 9) == {name: 7}


@pytest.mark.parametrize("template", TABLES)
def test_an_unserved_field_is_refused_whatever_is_opened(template: str) -> None:
    for name in TABLES[template].unserved:
        assert refused(template, {name: "x"}, rules(open_fields=OPENABLE)).param == name
        assert RULES.check(template, {name: False}, 9) == {}


def test_an_unknown_field_is_refused_or_left_out_and_never_passed_on() -> None:
    for template in TABLES:
        error = refused(template, {"guided_json": {}})
        assert (error.param, error.code) == ("guided_json", "unknown_parameter")
        lenient = rules(ignores_unknown_fields=True)
        assert lenient.check(template, {"guided_json": {}, "model": "m"}, 9) == {"model": "m"}


def test_official_fields_without_effect_are_left_out() -> None:
    body = {"model": "m", "store": False, "metadata": {"a": "b"}}
    assert RULES.check(CHAT, body, 9) == {"model": "m"}
    assert "store" in body


def test_a_body_without_anything_to_remove_is_handed_on_as_it_is() -> None:
    body = {"model": "m", "max_tokens": 5, **user("hi")}
    assert RULES.check(CHAT, body, 9) is body


@pytest.mark.parametrize(
    ("template", "body", "param"),
    [
        (CHAT, {"n": 17}, "n"),
        (CHAT, {"n": "0" * 399 + "10000"}, "n"),
        (CHAT, {"logit_bias": {"0" * 11 + "99999999999": 1}}, "logit_bias"),
        (CHAT, {"n": "16384"}, "n"),
        (CHAT, {"n": 1e9}, "n"),
        (COMPLETIONS, {"n": 16, "prompt": ["a"] * 9}, "n"),
        (COMPLETIONS, {"prompt": ["a"] * 65}, "prompt"),
        (COMPLETIONS, {"prompt": []}, "prompt"),
        (COMPLETIONS, {"prompt": [1, 2]}, "prompt"),
        (COMPLETIONS, {"prompt": [[1, 2]]}, "prompt"),
        (COMPLETIONS, {"best_of": 5}, "best_of"),
        (COMPLETIONS, {"logprobs": 21}, "logprobs"),
        (COMPLETIONS, {"logprobs": 6, "echo": True}, "logprobs"),
        (CHAT, {"top_logprobs": -1}, "top_logprobs"),
        (CHAT, {"prompt_logprobs": 6}, "prompt_logprobs"),
        (CHAT, {"stop": ["a"] * 17}, "stop"),
        (CHAT, {"stop": "a" * 257}, "stop.0"),
        (CHAT, {"bad_words": ["a"] * 65}, "bad_words"),
        (MESSAGES, {"stop_sequences": ["a", ""]}, "stop_sequences.1"),
        (CHAT, {"stop_token_ids": list(range(257))}, "stop_token_ids"),
        (CHAT, {"stop_token_ids": [2**31]}, "stop_token_ids.0"),
        (CHAT, {"logit_bias": {str(n): 1 for n in range(301)}}, "logit_bias"),
        (CHAT, {"logit_bias": {"-1": 1}}, "logit_bias"),
        (CHAT, {"logit_bias": {"²": 1}}, "logit_bias"),
        (CHAT, {"logit_bias": {"9" * 4000: 1}}, "logit_bias"),
        (CHAT, {"logit_bias": {"1": 101}}, "logit_bias.1"),
        (CHAT, {"seed": 2**63}, "seed"),
        (RESPONSES, {"seed": -(2**63) - 1}, "seed"),
        (CHAT, {"top_k": 2**31}, "top_k"),
        (CHAT, {"temperature": 1e300}, "temperature"),
        (CHAT, {"temperature": "nan"}, "temperature"),
        (CHAT, {"repetition_penalty": 1e-300}, "repetition_penalty"),
        (CHAT, {"max_tokens": 10**30}, "max_tokens"),
        (DETOKENIZE, {"tokens": [2**63 - 1]}, "tokens.0"),
        (CHAT, {"messages": [{"role": "user"}] * 1025}, "messages"),
        (CHAT, {"messages": None}, "messages"),
        (CHAT, {"messages": [{"role": "user", "content": 7}]}, "messages.0.content"),
        (RESPONSES, {"input": [{"role": "user"}, 7]}, "input.1"),
        (CHAT, {"tools": [None]}, "tools.0"),
        (CHAT, {"messages": {}}, "messages"),
        (MESSAGES, {"messages": []}, "messages"),
        (RESPONSES, {"input": ""}, "input"),
        (RESPONSES, {"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        (RESPONSES, {"tools": True}, "tools"),
        (RESPONSES, {"tool_choice": {"name": [{}]}}, "tool_choice.name"),
        (CHAT, {"messages": [{"role": "assistant", "tool_calls": 7}]}, "messages.0.tool_calls"),
        (CHAT, user([{"type": "text", "text": ""}] * 4097), "messages"),
        (CHAT, {"messages": [{"role": "wizard"}]}, "messages.0.role"),
        (CHAT, {"tools": [{"type": "function"}] * 129}, "tools"),
    ],
)
def test_a_knob_turned_too_far_is_refused_by_name(
    template: str, body: dict[str, Any], param: str
) -> None:
    assert refused(template, body).param == param


def test_the_bounds_themselves_are_allowed() -> None:
    body = {"n": 16, "stop": ["a"] * 16, "top_k": -1, "seed": 2**63 - 1, "logit_bias": {"5": -100}}
    assert RULES.check(CHAT, body, 9) is body
    prompts = {"prompt": ["a"] * 8, "n": 16}
    assert RULES.check(COMPLETIONS, prompts, 9) is prompts


def test_a_keys_bound_takes_the_place_of_the_services_and_its_tenants_may_be_lower() -> None:
    key, tenant = Limits(max_n=32, max_messages=5), Limits(max_messages=3)
    assert RULES.of([key, tenant]).check(CHAT, {"n": 32}, 9)
    for owners, most in (([], 1024), ([key], 5), ([key, tenant], 3)):
        mine = RULES.of(owners)
        assert mine.check(CHAT, {"messages": [{"role": "user"}] * most}, 9)
        with pytest.raises(InvalidRequest, match=f"0 to {most}"):
            mine.check(CHAT, {"messages": [{"role": "user"}] * (most + 1)}, 9)


def test_keys_without_bounds_of_their_own_share_the_services_rules() -> None:
    assert RULES.of([Limits(requests_per_minute=5), Limits()]) is RULES


def test_token_ids_are_a_prompt_where_a_setting_says_so() -> None:
    for prompt in ([1, 2], [[1, 2], [3]]):
        assert rules(allow_token_ids=True).check(COMPLETIONS, {"prompt": prompt}, 9)


def test_characters_are_counted_wherever_they_stand() -> None:
    few = rules(max_chars=20)
    for template, body in (
        (CHAT, user("a" * 21)),
        (CHAT, user([{"type": "text", "text": "a" * 21}])),
        (COMPLETIONS, {"prompt": ["a" * 11] * 2}),
        (CHAT, {"tools": [{"type": "function", "function": {"name": "a" * 21}}]}),
    ):
        with pytest.raises(InvalidRequest) as caught:
            few.check(template, body, 10_000)
        assert caught.value.code == "limit_exceeded"


MEDIA = (
    {"type": "image_url", "image_url": {"url": "http://127.0.0.1/x"}},
    {"type": "text", "text": "a", "uuid": "u", "image_url": "http://127.0.0.1/x"},
    {"image_url": "http://127.0.0.1/x"},
    {"type": "input_audio", "input_audio": {"data": ""}},
    {"type": "video_url", "video_url": {"url": "file:///etc/passwd"}},
    {"type": "image_embeds", "image_embeds": "AAAA"},
    {"type": "prompt_embeds", "data": "AAAA"},
    {"type": "input_file", "file_url": "http://127.0.0.1/x"},
    {"type": ["text"]},
    {"type": {"text": 1}},
)


@pytest.mark.parametrize("part", MEDIA)
def test_media_is_refused_in_every_api(part: dict[str, Any]) -> None:
    nested = [{"type": "tool_result", "tool_use_id": "t", "content": [part]}]
    for template, body in (
        (CHAT, user([part])),
        (TOKENIZE, user([part])),
        (MESSAGES, user([part])),
        (MESSAGES, {"system": [part]}),
        (MESSAGES, user(nested)),
        (RESPONSES, {"input": [{"role": "user", "content": [part]}]}),
    ):
        assert refused(template, body).code == "unsupported_content"


@pytest.mark.parametrize("kind", ["mcp", "web_search", "file_search", "code_interpreter", ["mcp"]])
def test_a_tool_that_the_server_would_call_is_refused(kind: Any) -> None:
    for template in (CHAT, RESPONSES, MESSAGES):
        body = {"tools": [{"type": kind, "server_url": "http://127.0.0.1/"}]}
        assert refused(template, body).code == "unsupported_tool"


def test_stored_conversations_are_refused() -> None:
    for name in ("previous_response_id", "conversation", "prompt"):
        assert refused(RESPONSES, {name: "x"}).param == name
    item = {"type": "item_reference", "id": "x"}
    assert refused(RESPONSES, {"input": [item]}).code == "unsupported_content"


def test_a_template_has_no_back_door() -> None:
    opened = rules(open_fields=frozenset({"chat_template_kwargs"}))
    body = {"chat_template_kwargs": {"chat_template": "{{ 7 * 7 }}"}}
    assert refused(CHAT, body, opened).param == "chat_template_kwargs.chat_template"


def test_the_longest_answer_holds_for_what_is_asked_and_for_what_is_not() -> None:
    short = rules(max_output_tokens=10)
    assert refused(CHAT, {"max_tokens": 11}, short).param == "max_tokens"
    assert short.check(CHAT, user("hi"), 9)["max_completion_tokens"] == 10
    assert short.check(RESPONSES, {"input": "hi"}, 9)["max_output_tokens"] == 10
    asked = {"max_tokens": 10}
    assert short.check(CHAT, asked, 9) is asked


def test_only_what_can_be_opened_is_a_setting() -> None:
    assert parse_open_fields("cache_salt, structural_tag") == {"cache_salt", STRUCTURAL_TAG}
    with pytest.raises(SettingsError, match="chat_template"):
        parse_open_fields("chat_template")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=9,
)
FIELDS = sorted(frozenset[str]().union(*(table.taken for table in TABLES.values())))


@given(st.sampled_from(sorted(TABLES)), st.dictionaries(st.sampled_from(FIELDS), anything))
def test_a_value_of_any_type_is_taken_or_clearly_refused(
    template: str, body: dict[str, Any]
) -> None:
    try:
        RULES.check(template, body, 10**9)
    except InvalidRequest as error:
        assert error.sentence


def test_prompts_over_the_bound_of_a_key_are_refused_where_no_n_is_named() -> None:
    of_key = RULES.of([Limits(max_sequences=2)])
    for body in ({}, {"n": None}, {"n": 1}):
        error = refused(COMPLETIONS, {"prompt": ["a", "b", "c"], **body}, of_key)
        assert (error.param, error.code) == ("prompt", "limit_exceeded")
    error = refused(COMPLETIONS, {"prompt": ["a", "b"], "n": 2}, of_key)
    assert (error.param, error.code) == ("n", "limit_exceeded")
