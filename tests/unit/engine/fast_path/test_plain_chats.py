"""Plain chats through vLLM's handler with our shortcuts in it, and without."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.responses import JSONResponse
from hypothesis import given, settings
from hypothesis import strategies as st
from vllm.engine.arg_utils import EngineArgs
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
from vllm.exceptions import GenerationError, VLLMValidationError
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.renderers import renderer_from_config
from vllm.renderers.online_renderer import OnlineRenderer

from app.engine.fast_path.fast_route import Headers, RawRequest
from app.engine.fast_path.plain_chat_request import PlainChatRequest, PlainChatRequests
from app.engine.fast_path.plain_chats import PlainChats, WordedAnswer, tells_one_text
from app.engine.fast_path.short_prompts import install_short_prompts
from app.engine.fast_path.whole_answers import json_of

pytestmark = pytest.mark.filterwarnings("ignore:max_tokens is deprecated:DeprecationWarning")

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["%(id)s %b 100%", "2222222222", "\x01content", '{"name": "f"}', "<|python_tag|>", "x" * 3000]
)
FIELDS = st.fixed_dictionaries(
    {
        "messages": st.lists(
            st.fixed_dictionaries(
                {"role": st.sampled_from(["user", "assistant", "system"]), "content": TEXTS}
            ),
            min_size=1,
            max_size=3,
        ),
        "model": st.sampled_from(["bench", "other"]),
    },
    optional={
        "max_tokens": st.integers(-1, 300),
        "max_completion_tokens": st.none() | st.integers(0, 9),
        "temperature": st.none() | st.floats(-1, 3),
        "top_p": st.floats(0, 1),
        "seed": st.none() | st.integers(0, 9),
        "stop": TEXTS | st.lists(TEXTS, max_size=2),
    },
)
ENDS = st.sampled_from(["stop", "length", "abort", "error", "repetition"])
STOP_REASONS = st.none() | st.integers(0, 9) | TEXTS


class Engine:
    """Stands for the engine: gives `outputs` for whatever it is asked, and notes that."""

    def __init__(self, config: Any, renderer: Any, outputs: list[RequestOutput]) -> None:
        self.vllm_config, self.model_config, self.renderer = config, config.model_config, renderer
        self.input_processor, self.errored, self.outputs = None, False, outputs
        self.asked: list[Any] = []

    def check_admission(self, n: int = 1) -> None:
        assert n == 1

    async def generate(self, prompt: Any, *rest: Any, **options: Any) -> AsyncIterator[Any]:
        prompt = {name: prompt[name] for name in prompt if name != "arrival_time"}
        self.asked.append((prompt, *rest, options))
        for output in self.outputs:
            yield output


def output_of(text: str, end: str, stop_reason: Any, **more: Any) -> RequestOutput:
    completion = CompletionOutput(
        index=0,
        text=text,
        token_ids=[1, 2, 3],
        cumulative_logprob=None,
        logprobs=None,
        finish_reason=end,
        stop_reason=stop_reason,
    )
    told: dict[str, Any] = {"prompt": None, "prompt_token_ids": [4, 5], "prompt_logprobs": None}
    return RequestOutput("1", outputs=[completion], finished=True, **told | more)


class Bench:
    """vLLM's chat handler with its own renderer, twice: with our shortcuts and without."""

    def __init__(self) -> None:
        self.config = EngineArgs(
            model="models/bundled/w8a8", max_model_len=256
        ).create_engine_config()
        self.ours, self.theirs = (renderer_from_config(self.config) for _ in range(2))
        install_short_prompts(self.ours)

    def serving(self, engine: Any, tool_parser: str | None = "llama3_json") -> OpenAIServingChat:
        models = SimpleNamespace(
            model_name=lambda _=None: "bench",
            is_base_model=lambda name: name == "bench",
            lora_requests={},
            base_model_paths=[SimpleNamespace(name="bench")],
        )
        shared: dict[str, Any] = {
            "request_logger": None,
            "chat_template": None,
            "chat_template_content_format": "auto",
            "enable_auto_tools": tool_parser is not None,
            "tool_parser": tool_parser,
        }
        renderer = OnlineRenderer(self.config.model_config, engine.renderer, **shared)
        return OpenAIServingChat(engine, models, "assistant", online_renderer=renderer, **shared)

    def answers(self, fields: dict[str, Any], outputs: list[RequestOutput]) -> list[Any]:
        request = PlainChatRequests().make(fields)
        if request is None:
            return []
        ours = Engine(self.config, self.ours, outputs)
        serving = self.serving(ours)
        PlainChats(serving).install()
        theirs = Engine(self.config, self.theirs, outputs)
        validated = ChatCompletionRequest.model_validate(fields)
        return [
            answered(serving, request, ours),
            answered(self.serving(theirs), validated, theirs),
        ]


@pytest.fixture(autouse=True)
def still_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_700_000_000.0)


def answered(serving: Any, request: Any, engine: Engine) -> tuple[Any, list[Any]]:
    """What the client is sent or what is raised, and what the engine was asked."""
    raw = RawRequest(Headers({"x-request-id": "7"}))
    try:
        answer = asyncio.run(serving.create_chat_completion(request, raw))
    except (VLLMValidationError, GenerationError, ValueError) as error:
        return (type(error), str(error)), engine.asked
    if isinstance(answer, WordedAnswer):
        return bytes(answer), engine.asked
    assert json_of(answer) == JSONResponse(answer.model_dump()).body
    return json_of(answer), engine.asked


def test_an_answer_and_what_the_engine_is_asked_are_the_same(bench: Bench) -> None:
    @settings(max_examples=100, deadline=None)
    @given(FIELDS, TEXTS, ENDS, STOP_REASONS)
    def compare(fields: dict[str, Any], text: str, end: str, stop_reason: Any) -> None:
        both = bench.answers(fields, [output_of(text, end, stop_reason)])
        assert not both or both[0] == both[1]

    compare()


BODY: dict[str, Any] = {"model": "bench", "messages": [{"role": "user", "content": "x"}]}


@pytest.mark.parametrize(
    "outputs",
    [
        [],
        [output_of("a", "stop", None, kv_transfer_params={"a": 1})],
        [output_of("a", "stop", None, num_cached_tokens=2)],
        [output_of("a", "length", None), output_of("ab", "stop", None)],
    ],
)
def test_unusual_outputs_are_worded_the_same(bench: Bench, outputs: list[RequestOutput]) -> None:
    ours, theirs = bench.answers(BODY, outputs)
    assert ours == theirs


def test_a_plain_answer_is_worded_without_vllms_model(bench: Bench) -> None:
    engine = Engine(bench.config, bench.ours, [output_of("a", "stop", None)])
    serving = bench.serving(engine)
    PlainChats(serving).install()
    request = PlainChatRequests().make(BODY)
    assert type(request) is PlainChatRequest
    assert isinstance(asyncio.run(serving.create_chat_completion(request)), WordedAnswer)


def test_more_than_a_text_is_not_plain() -> None:
    assert tells_one_text(output_of("a", "stop", None))
    assert not tells_one_text(output_of("a", "abort", None))
    assert not tells_one_text(output_of("a", "stop", None, prompt_logprobs=[None]))
    assert not tells_one_text(output_of("a", "stop", None, ec_transfer_params={}))


def test_other_requests_pass_through_unchanged(bench: Bench) -> None:
    fields = BODY | {"n": 1, "logprobs": False}
    engines = [
        Engine(bench.config, each, [output_of("a", "stop", None)])
        for each in (bench.ours, bench.theirs)
    ]
    ours, theirs = map(bench.serving, engines)
    PlainChats(ours).install()
    request = ChatCompletionRequest.model_validate(fields)
    answers = [
        answered(serving, request, engine)
        for serving, engine in zip((ours, theirs), engines, strict=True)
    ]
    assert answers[0] == answers[1]
