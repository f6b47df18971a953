"""Prompts put together of what was learned of a template, and those that Jinja renders."""

import itertools
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.exceptions import SecurityError
from transformers.utils.chat_template_utils import _compile_jinja_template

from app.engine.fast_path.learned_prompts import MAX_LEARNED, USUAL
from app.engine.fast_path.opaque_template import opaque_template
from app.engine.fast_path.plain_template import TEMPLATE_FAILED, PlainTemplate
from app.engine.fast_path.short_prompts import MAX_MESSAGES
from tests.unit.engine.fast_path.chat_templates import (
    ASKS,
    BUNDLED,
    CHANCE,
    DATED,
    GEMMA,
    LEARNED,
    LLAMA_3,
    MISTRAL,
    each,
)

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
ARGUMENTS: dict[str, Any] = {"add_generation_prompt": True, "tokenize": False}

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9) | st.sampled_from(
    ["<|eot_id|>", "{{ x }}", " \n a \t", "x", "abc", " ", "%s", "</think>b", "7", "é\u2028"]
)
MESSAGES = st.lists(
    st.builds(
        lambda role, content, turned: dict(
            [("role", role), ("content", content)][:: -1 if turned else 1]
        ),
        st.sampled_from(["user", "assistant", "system"]),
        TEXTS,
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
)


def of_jinja(text: str, messages: list[dict[str, str]]) -> str | None:
    """Of messages as vLLM gives them to a template, whatever their client has put first."""
    messages = [{name: each[name] for name in ("role", "content")} for each in messages]
    given = {**TOKENS, "add_generation_prompt": True, "tools": None, "documents": None}
    try:
        prompt: str = _compile_jinja_template(text).render(messages=messages, **given)
    except TEMPLATE_FAILED:
        return None
    return prompt


def made(text: str) -> PlainTemplate:
    return PlainTemplate(text, TOKENS, ARGUMENTS)


def is_learned(template: PlainTemplate, *roles: str) -> bool:
    return template.learned.known(roles) is not None


def check(text: str, num_examples: int) -> None:
    template = made(text)

    @settings(max_examples=num_examples, deadline=None)
    @given(MESSAGES)
    def compare(messages: list[dict[str, str]]) -> None:
        assert template.render(messages, ARGUMENTS) == of_jinja(text, messages)

    compare()


REAL = {**LEARNED, "mistral": MISTRAL, "gemma": GEMMA, "dated": DATED, **ASKS}


@pytest.mark.parametrize("text", REAL.values(), ids=REAL)
def test_a_prompt_is_what_jinja_makes(text: str) -> None:
    check(text, 60)


@pytest.mark.parametrize("text", LEARNED.values(), ids=LEARNED)
def test_what_depends_on_no_content_is_learned(text: str) -> None:
    template = made(text)
    assert is_learned(template, "user")
    assert is_learned(template, "system", "user", "assistant", "user")


@pytest.mark.parametrize("text", [*ASKS.values(), *CHANCE.values()], ids=[*ASKS, *CHANCE])
def test_what_depends_on_a_content_or_changes_by_itself_is_not_learned(text: str) -> None:
    template = made(text)
    assert not is_learned(template, "user")
    assert not is_learned(template, "system", "user", "assistant", "user")


INFIXES = st.sampled_from(["+", "~", "%", "and", "or", "==", "in"])
SUFFIXES = st.sampled_from(
    [
        *("|trim", "|upper", "|list", "|first", "|length", "|int", "|default('x', true)"),
        *("|string", "|tojson", "|join", "[:2]", ".strip()", ".rstrip()", " is string"),
        " is sequence",
    ]
)
# What a template may make of a content, one out of another.
EXPRESSIONS = st.recursive(
    st.sampled_from(["m.content", "messages[0].content", "' a'", "m.role", "bos_token"]),
    lambda inner: (
        st.builds("({} {} {})".format, inner, INFIXES, inner)
        | st.builds("({}{})".format, inner, SUFFIXES)
        | st.builds("({} if {} else {})".format, inner, inner, inner)
        | st.builds("worded({})".format, inner)
    ),
    max_leaves=5,
)


@settings(max_examples=150, deadline=None)
@given(EXPRESSIONS, st.lists(MESSAGES, min_size=3, max_size=3))
def test_whatever_a_template_does_its_prompt_is_what_jinja_makes(
    expression: str, chats: list[list[dict[str, str]]]
) -> None:
    text = "{% macro worded(x) %} {{ x }} {% endmacro %}" + each(f"{{{{ {expression} }}}}")
    template = made(text)
    for messages in chats:
        assert template.render(messages, ARGUMENTS) == of_jinja(text, messages)


def test_a_template_stays_in_the_sandbox_while_it_is_learned() -> None:
    text = "{{ messages.append(1) }}"
    template = opaque_template(_compile_jinja_template(text).environment, text)
    with pytest.raises(SecurityError):
        template.render(messages=[])


def test_the_bundled_template_is_learned_for_all_roles() -> None:
    for length in (1, 2, 3):
        template = made(BUNDLED)
        for roles in itertools.product(("user", "assistant", "system"), repeat=length):
            assert is_learned(template, *roles)
    assert is_learned(made(BUNDLED), *["system", "user", "assistant", "user"] * 4)


def test_a_template_is_not_asked_again_for_what_is_learned() -> None:
    template, messages = made(LLAMA_3), [{"role": "user", "content": " What is 3 + 4?\n"}]
    template.render(messages, ARGUMENTS)
    with mock.patch.object(template, "_compiled") as compiled:
        assert template.render(messages, ARGUMENTS) == of_jinja(LLAMA_3, messages)
    compiled.render.assert_not_called()


def test_a_blank_content_is_rendered_by_jinja() -> None:
    template, messages = made(BUNDLED), [{"role": "system", "content": " \n"}]
    with mock.patch.object(template.learned, "known") as known:
        assert template.render(messages, ARGUMENTS) == of_jinja(BUNDLED, messages)
    known.assert_not_called()


def test_roles_are_learned_each_by_itself() -> None:
    mistral, gemma, dated = made(MISTRAL), made(GEMMA), made(DATED)
    assert is_learned(mistral, "system", "user", "assistant", "user")
    assert not is_learned(mistral, "user", "user")
    assert is_learned(gemma, "user", "assistant", "user")
    assert not is_learned(gemma, "system", "user")
    assert is_learned(dated, "user")
    assert not is_learned(dated, "system", "user")


def test_what_cannot_be_learned_is_tried_once() -> None:
    template, messages = made(ASKS["length"]), [{"role": "user", "content": "x"}]
    template.render(messages, ARGUMENTS)
    with mock.patch.object(template.learned, "_learn") as learn:
        assert template.render(messages, ARGUMENTS) == "<1>"
    learn.assert_not_called()


def test_no_more_is_learned_than_there_is_room_for() -> None:
    template = made(LLAMA_3)
    for count in range(1, MAX_LEARNED + 1):
        assert is_learned(template, *["user"] * count)
    messages = [{"role": "system", "content": "x"}]
    assert not is_learned(template, "system")
    assert template.render(messages, ARGUMENTS) == of_jinja(LLAMA_3, messages)
    assert is_learned(template, "user")


def test_a_client_that_asks_for_odd_roles_does_not_take_the_room_of_usual_ones() -> None:
    template = made(LLAMA_3)
    template.learned.learn_usual()
    for count in range(2, MAX_LEARNED + 2):
        is_learned(template, *["user"] * count)
    assert not is_learned(template, "system")
    for roles in USUAL:
        assert is_learned(template, *roles)
        assert roles[-1] == "user"
        assert len(roles) <= MAX_MESSAGES


@pytest.mark.parametrize(
    "text",
    [
        "{{ 'a long name' | truncate(2) if messages | length > 12 }}",  # an AssertionError
        "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) if messages | length > 12 }}",
    ],
)
def test_a_template_that_fails_in_a_way_of_its_own_fails_its_requests_alone(text: str) -> None:
    template = made("{% for each in messages %}{{ each.content }}{% endfor %}" + text)
    template.learned.learn_usual()
    assert is_learned(template, "user")
    assert not is_learned(template, *USUAL[-1])


def test_what_was_learned_wrongly_is_forgotten() -> None:
    """Never seen; the comparison with Jinja is a net."""
    template, messages = made(LLAMA_3), [{"role": "user", "content": " x"}]
    template.learned._template = _compile_jinja_template("a prompt")
    assert template.render(messages, ARGUMENTS) == of_jinja(LLAMA_3, messages)
    assert not is_learned(template, "user")
