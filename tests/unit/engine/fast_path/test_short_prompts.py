"""Prompts rendered where they are asked for, and vLLM's own, in threads: the same tokens."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vllm.engine.arg_utils import EngineArgs
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.exceptions import VLLMValidationError
from vllm.renderers import renderer_from_config
from vllm.renderers.online_renderer import OnlineRenderer

from app.engine.fast_path.short_prompts import MAX_CHARS, MAX_MESSAGES, install_short_prompts

pytestmark = pytest.mark.filterwarnings("ignore:max_tokens is deprecated:DeprecationWarning")
MODEL = "models/bundled/w8a8"
TOOLS = [{"type": "function", "function": {"name": "f"}}]
TOLD = (
    "{% for m in messages %}{{ m | tojson }}{% for name in m %}{{ name }}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
STRICT = (
    "{{ bos_token }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles have to alternate') }}{% endif %}"
    "{{ '[INST] ' + m.content | trim + ' [/INST]' if m.role == 'user' else m.content + eos_token }}"
    "{% endfor %}"
)
TYPED = (
    "{% for m in messages %}{% for part in m.content %}{{ part.text }}{% endfor %}{% endfor %}"
    "{{ reasoning_effort }}{{ 'think' if enable_thinking }}{{ tools }}{{ documents }}"
)
TEMPLATES = (None, TOLD, STRICT, TYPED)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    ["What is 3 + 4?", " \n", "<|eot_id|>", "x-anthropic-billing-header: 1\nrest", "a" * 3000]
)
CONTENTS = TEXTS | st.lists(
    st.builds(lambda text: {"type": "text", "text": text}, TEXTS), max_size=2
)
ROLES = st.sampled_from(["user", "assistant", "system", "developer"])
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": ROLES, "content": CONTENTS}, optional={"name": st.just("n")})
    | st.fixed_dictionaries({"content": CONTENTS, "role": ROLES}),
    min_size=1,
    max_size=4,
)
CHATS = st.fixed_dictionaries(
    {"messages": MESSAGES},
    optional={
        "max_tokens": st.integers(0, 5),
        "add_special_tokens": st.booleans(),
        "reasoning_effort": st.sampled_from(["low", "none"]),
        "cache_salt": st.just("salt"),
        "chat_template_kwargs": st.just({"enable_thinking": True}),
        "truncate_prompt_tokens": st.integers(1, 9),
    },
)
COMPLETIONS = st.fixed_dictionaries(
    {"prompt": TEXTS.filter(bool) | st.lists(st.integers(0, 9), min_size=1, max_size=3)},
    optional={"add_special_tokens": st.booleans(), "truncate_prompt_tokens": st.integers(1, 9)},
)


@pytest.fixture(scope="module")
def config() -> Any:
    return EngineArgs(model=MODEL).create_engine_config()


Renderers = Callable[[str | None], tuple[OnlineRenderer, OnlineRenderer]]


@pytest.fixture(scope="module")
def renderers(config: Any) -> Iterator[Renderers]:
    """Makes one with short prompts and one as vLLM has it, with a template or the model's own."""
    theirs, ours = renderer_from_config(config), renderer_from_config(config)
    install_short_prompts(ours)

    def make(template: str | None) -> tuple[OnlineRenderer, OnlineRenderer]:
        options = {
            "request_logger": None,
            "chat_template": template,
            "chat_template_content_format": "auto",
        }
        made = partial(OnlineRenderer, config.model_config, **options)
        return made(ours), made(theirs)

    yield make
    for renderer in (ours, theirs):
        renderer.shutdown()


def rendered(renderer: OnlineRenderer, request: Any) -> Any:
    """The engine's inputs without their time, or what is said against the request."""
    is_chat = isinstance(request, ChatCompletionRequest)
    rendering = renderer.render_chat(request) if is_chat else renderer.render_completion(request)
    try:
        inputs = asyncio.run(rendering)
    except (VLLMValidationError, ValueError) as error:
        return type(error), str(error)
    if is_chat:
        inputs = inputs[1]
    return [{name: each[name] for name in each if name != "arrival_time"} for each in inputs]


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_chat_is_rendered_the_same(renderers: Renderers, template: str | None) -> None:
    ours, theirs = renderers(template)

    @settings(max_examples=150, deadline=None)
    @given(CHATS)
    def compare(fields: dict[str, Any]) -> None:
        first, second = (ChatCompletionRequest.model_validate(fields) for _ in range(2))
        assert rendered(ours, first) == rendered(theirs, second)

    compare()


def test_a_completions_prompt_is_rendered_the_same(renderers: Renderers) -> None:
    ours, theirs = renderers(None)

    @settings(max_examples=150, deadline=None)
    @given(COMPLETIONS)
    def compare(fields: dict[str, Any]) -> None:
        first, second = (CompletionRequest.model_validate(fields) for _ in range(2))
        assert rendered(ours, first) == rendered(theirs, second)

    compare()


def num_threads_asked(renderer: OnlineRenderer, **fields: Any) -> int:
    request = ChatCompletionRequest.model_validate({"model": "m"} | fields)
    executor = renderer.renderer._executor
    with mock.patch.object(executor, "submit", wraps=executor.submit) as submit:
        asyncio.run(renderer.render_chat(request))
    return submit.call_count


USER = {"role": "user", "content": "x"}


def test_a_short_chat_needs_no_thread(renderers: Renderers) -> None:
    ours, theirs = renderers(None)
    assert num_threads_asked(ours, messages=[USER]) == 0
    assert num_threads_asked(theirs, messages=[USER]) == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [USER | {"content": "x" * (MAX_CHARS + 1)}]},
        {"messages": [USER] * (MAX_MESSAGES + 1)},
        {"messages": [USER | {"content": "x" * 1500}] * 2},
        {"messages": [USER], "chat_template_kwargs": {"turns": 10**9}},
        {"messages": [USER], "tools": TOOLS, "tool_choice": "none"},
    ],
)
def test_what_may_take_long_is_left_to_threads(
    renderers: Renderers, fields: dict[str, Any]
) -> None:
    ours, _ = renderers(None)
    assert num_threads_asked(ours, **fields) == 2
