"""Short prompts are rendered where they are asked for: vLLM renders every prompt in threads, and a
way there and back costs several times what the rendering does.

The rendering itself stays vLLM's: of each method that goes through threads it has a twin that does
not. A short text is encoded by a tokenizer of our own, made of vLLM's, without the Hugging Face
wrapper's checks; it is only used where both agree on a number of sample texts.
"""

import copy
from collections.abc import Mapping, Sequence
from time import time
from typing import Any

from vllm.renderers.base import BaseRenderer

from app.engine.fast_path.plain_template import PlainTemplate, plain_template

# What keeps the event loop for about 1 ms at most.
MAX_CHARS, MAX_MESSAGES = 2048, 16
_MAX_TEMPLATES = 4  # a request's own is refused, so there is one
# What vLLM gives a template by itself. With other arguments it is as slow as these make it.
_ARGUMENTS = frozenset(
    {
        *("add_generation_prompt", "continue_final_message", "reasoning_effort", "enable_thinking"),
        *("tokenize", "cohere_format"),
    }
)
_SAMPLES = (
    "",
    "a",
    " What is 37 + 5?\n",
    "é 漢字 😀 \u2028 \x00",
    "<|im_start|></s><s>[INST] x",
    "x" * 300,
)


class ShortPrompts:
    """Put before the rendering methods of a text model's `renderer` by `install`."""

    def __init__(self, renderer: BaseRenderer) -> None:
        self._renderer = renderer
        self._chat, self._completions = renderer.render_chat_async, renderer.render_cmpl_async
        self._tokenize = renderer._tokenize_prompt
        self.tokenizer = make_tokenizer(renderer)
        self._templates: dict[Any, PlainTemplate | None] = {}

    def install(self) -> None:
        renderer = self._renderer
        renderer.render_chat_async = self.render_chat
        renderer.render_cmpl_async = self.render_completions
        if self.tokenizer is not None:
            renderer._tokenize_prompt = self.tokenize
        end_token = renderer.get_eos_token_id()  # asked for by every request
        renderer.get_eos_token_id = lambda: end_token

    async def render_chat(
        self, conversations: Sequence[Any], chat_params: Any, tok_params: Any = None, **options: Any
    ) -> Any:
        arguments = chat_params.chat_template_kwargs
        if not arguments.keys() <= _ARGUMENTS or not all(map(is_short_chat, conversations)):
            return await self._chat(conversations, chat_params, tok_params, **options)
        template = self._template_of(chat_params)
        if template is not None and tok_params is not None and len(conversations) == 1:
            text = template.render(conversations[0], arguments)
            if text is not None:
                extras = options.get("prompt_extras") or {}
                return conversations, [prepare(self._renderer, text, tok_params, extras)]
        return self._renderer.render_chat(conversations, chat_params, tok_params, **options)

    def _template_of(self, chat_params: Any) -> PlainTemplate | None:
        """The template of requests like this one; by its text there are few of them."""
        key = (chat_params.chat_template, chat_params.chat_template_content_format)
        if key not in self._templates:
            if len(self._templates) >= _MAX_TEMPLATES:
                return None
            self._templates[key] = plain_template(self._renderer, chat_params)
        return self._templates[key]

    async def render_completions(self, prompts: Sequence[Any], *rest: Any, **options: Any) -> Any:
        if len(prompts) == 1 and is_short_prompt(prompts[0]):
            return self._renderer.render_cmpl(prompts, *rest, **options)
        return await self._completions(prompts, *rest, **options)

    def tokenize(self, prompt: Any, params: Any) -> Any:
        """As vLLM's; from any thread, and with ours for a short text and no offsets."""
        text = prompt["prompt"]
        arguments = params.get_encode_kwargs()
        if len(text) > MAX_CHARS or self._renderer._wants_offsets(prompt, params):
            return self._tokenize(prompt, params)
        ids = token_ids_of(self.tokenizer, text, arguments["add_special_tokens"])
        if arguments["truncation"] and len(ids) > arguments["max_length"]:
            return self._tokenize(prompt, params)
        return self._renderer._build_tokens_prompt(ids, prompt)


def prepare(renderer: BaseRenderer, text: str, tok_params: Any, extras: Mapping[str, Any]) -> Any:
    """What vLLM's `render_chat` does with a rendered text."""
    arrival_s = time()
    prompt = renderer.tokenize_prompt({"prompt": text}, tok_params)
    renderer._apply_prompt_extras([prompt], {**extras, "media_io_kwargs": {}})
    return renderer.process_for_engine(prompt, arrival_s, tok_params=tok_params)


def is_short_chat(messages: Any) -> bool:
    """Whether it is of few messages, all of texts, that are short together."""
    if len(messages) > MAX_MESSAGES:
        return False
    num_chars = 0
    for message in messages:
        content = message.get("content")
        if not isinstance(content, str) or "tool_calls" in message:
            return False
        num_chars += len(content)
    return num_chars <= MAX_CHARS


def is_short_prompt(prompt: Any) -> bool:
    return (
        isinstance(prompt, dict)
        and len(prompt.get("prompt") or "") <= MAX_CHARS
        and ("prompt" in prompt or "prompt_token_ids" in prompt)
    )


def make_tokenizer(renderer: BaseRenderer) -> Any:
    """A Rust tokenizer that encodes as the renderer's; None where there is none that does."""
    backend = getattr(renderer.tokenizer, "_tokenizer", None)
    if backend is None or not hasattr(backend, "no_truncation"):
        return None
    own = copy.deepcopy(backend)
    own.no_truncation()
    own.no_padding()
    for text in _SAMPLES:
        for special in (True, False):
            theirs = renderer.tokenizer(text, add_special_tokens=special)["input_ids"]
            if token_ids_of(own, text, special) != theirs:
                return None
    return own


def token_ids_of(tokenizer: Any, text: str, add_special_tokens: bool) -> list[int]:
    """Of a Rust tokenizer. `encode` would also work out where in the text each token stands."""
    (encoding,) = tokenizer.encode_batch_fast([text], add_special_tokens=add_special_tokens)
    ids: list[int] = encoding.ids
    return ids


def install_short_prompts(renderer: BaseRenderer) -> ShortPrompts | None:
    """For text models; those that see have a cache that their prompts go through in order."""
    if renderer.mm_processor is not None or not hasattr(renderer, "_render_with_timeout"):
        return None
    prompts = ShortPrompts(renderer)
    prompts.install()
    return prompts
