"""Sampling parameters that were checked before, and those that vLLM would check now: the same."""

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.sampling_params import SamplingParams
from vllm.v1.engine.input_processor import InputProcessor

from app.engine.fast_path import known_params
from app.engine.fast_path.known_params import KnownParams
from app.engine.fast_path.plain_chat_request import needs_no_validation
from tests.unit.engine.fast_path.test_plain_chat_request import PLAIN
from tests.unit.engine.fast_path.test_plain_chats import BODY, Bench
from tests.unit.engine.fast_path.wired_engine import TASKS

pytestmark = pytest.mark.filterwarnings("ignore:max_tokens is deprecated:DeprecationWarning")
DEFAULTS = {"temperature": 0.6, "top_k": 7, "stop_token_ids": [9]}
ASKED = st.fixed_dictionaries({}, optional=dict(PLAIN))


@pytest.fixture(scope="module")
def processor(bench: Bench) -> InputProcessor:
    return InputProcessor(bench.config, bench.ours)


def fresh(processor: InputProcessor, fields: dict[str, Any], max_tokens: int) -> SamplingParams:
    request = ChatCompletionRequest.model_validate(fields)
    params = request.to_sampling_params(max_tokens, DEFAULTS)
    prompt: Any = {"type": "token", "prompt_token_ids": [1, 2, 3]}
    made = processor.process_inputs("1", prompt, params, TASKS)
    assert made.sampling_params is not None
    return made.sampling_params


def values_of(params: SamplingParams | None) -> dict[str, Any]:
    assert params is not None
    return {name: getattr(params, name) for name in params.__struct_fields__}


def test_they_are_the_same_whatever_was_asked_for_before(processor: InputProcessor) -> None:
    known = KnownParams(DEFAULTS, processor, TASKS)

    @settings(max_examples=200, deadline=None)
    @given(ASKED, st.integers(1, 99), st.integers(1, 99))
    def compare(asked: dict[str, Any], first: int, second: int) -> None:
        fields = BODY | asked
        assume(needs_no_validation(fields))
        for max_tokens in (first, second):
            try:
                expected = values_of(fresh(processor, fields, max_tokens))
            except Exception:  # noqa: BLE001 (however vLLM says no)
                assert known.of(fields, max_tokens) is None
            else:
                assert values_of(known.of(fields, max_tokens)) == expected

    compare()


def test_each_request_has_its_own(processor: InputProcessor) -> None:
    known = KnownParams(DEFAULTS, processor, TASKS)
    one, other = known.of(BODY, 5), known.of(BODY, 6)
    assert one is not None
    assert other is not None
    one.max_tokens = 1
    assert other.max_tokens == 6
    assert values_of(known.of(BODY, 7))["max_tokens"] == 7


def test_no_more_are_kept_than_so_many(
    processor: InputProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_params, "_MAX_KNOWN", 3)
    known = KnownParams(DEFAULTS, processor, TASKS)
    for seed in range(20):
        assert values_of(known.of(BODY | {"seed": seed}, 5))["seed"] == seed
        assert len(known._known) <= 3
