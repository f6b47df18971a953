"""The chat template of the model, compiled once, for conversations of nothing but texts."""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError
from transformers.utils.chat_template_utils import _compile_jinja_template
from vllm.renderers.hf import (
    _cached_resolve_chat_template_kwargs,
    resolve_chat_template,
    resolve_chat_template_content_format,
)

from app.engine.fast_path.learned_prompts import LearnedPrompts
from app.engine.fast_path.plain_chat_request import MESSAGE_FIELDS, ROLES

TEMPLATE_FAILED = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)
# A line that vLLM takes out of a system message.
_TAKEN_OUT = "x-anthropic-billing-header"


class PlainTemplate:
    """`arguments`: what vLLM gives the template of a plain request, besides the messages."""

    def __init__(self, template: str, tokens: Mapping[str, Any], arguments: dict[str, Any]) -> None:
        self._arguments = arguments
        self._compiled = _compile_jinja_template(template).environment.from_string(template)
        # As it comes it is a ChainMap; copying that is a fifth of a short chat's rendering.
        self._compiled.globals = dict(self._compiled.globals)
        variables = _cached_resolve_chat_template_kwargs(template)
        used = {name: value for name, value in arguments.items() if name in variables}
        used |= {"add_generation_prompt": arguments.get("add_generation_prompt", False)}
        self._given = {**tokens, **used, "tools": None, "documents": None}
        environment = self._compiled.environment
        self.learned = LearnedPrompts(self._render, environment, template, self._given)

    def render(self, messages: Sequence[Any], arguments: dict[str, Any]) -> str | None:
        """The prompt; None where vLLM has to render it, or has to say why it cannot be."""
        if arguments != self._arguments or not messages or not all(map(is_unchanged, messages)):
            return None
        text = self.learned.render(messages)
        return self._render(list(map(in_order, messages))) if text is None else text

    def _render(self, messages: Sequence[Any]) -> str | None:
        try:
            text: str = self._compiled.render(messages=messages, **self._given)
        except TEMPLATE_FAILED:
            return None
        return text


def is_unchanged(message: Any) -> bool:
    """Whether vLLM gives it to the template as it is; other roles and fields it converts first."""
    if message.keys() != MESSAGE_FIELDS or message["role"] not in ROLES:
        return False
    content = message["content"]
    return isinstance(content, str) and bool(content) and not content.startswith(_TAKEN_OUT)


def in_order(message: Any) -> dict[str, str]:
    """A plain message as vLLM makes it anew: a template may tell which field comes first."""
    return {"role": message["role"], "content": message["content"]}


def plain_template(renderer: Any, chat_params: Any) -> PlainTemplate | None:
    """For requests with `chat_params`; None where their messages are converted first."""
    arguments, tokenizer = chat_params.chat_template_kwargs, renderer.tokenizer
    known = {"model_config": renderer.model_config}
    given = chat_params.chat_template
    form = resolve_chat_template_content_format(
        given, None, chat_params.chat_template_content_format, tokenizer, **known
    )
    template = resolve_chat_template(tokenizer, given, None, **known)
    if form != "string" or template is None or arguments.get("continue_final_message"):
        return None
    return PlainTemplate(template, tokenizer.special_tokens_map, dict(arguments))
