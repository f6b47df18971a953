"""The fast path and vLLM's own, fed the same outputs of an engine, write the same."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vllm.v1.engine import EngineCoreEvent, EngineCoreEventType, FinishReason

from tests.unit.engine.fast_path.byte_tokenizer import WORDS, tokens_of
from tests.unit.engine.fast_path.fast_client import (
    CHAT_BODY,
    COMPLETION_BODY,
    USAGE,
    Case,
    ask_fast,
    ask_stock,
    texts_of,
)
from tests.unit.engine.fast_path.recorded_engine import Piece
from tests.unit.engine.fast_path.recorded_serving import CREATED

PARSERS = (None, "llama3_json")
LETTERS = st.sampled_from(list(b'abcSTOP ."\\\x00\x1f\n'))
TOKENS = st.one_of(
    LETTERS,
    st.integers(0, 255),  # also what is no UTF-8
    st.integers(256, 255 + len(WORDS)),
)
PREEMPTED = EngineCoreEvent.new_event(EngineCoreEventType.PREEMPTED, 1.0)
ENDS = (FinishReason.STOP, FinishReason.LENGTH, FinishReason.ABORT)


@pytest.fixture(autouse=True)
def still_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """`created` is the second in which a stream begins."""
    module = "vllm.entrypoints.openai.chat_completion.serving.time.time"
    monkeypatch.setattr(module, lambda: float(CREATED))


@st.composite
def cases(draw: st.DrawFn, turns: int) -> Case:
    is_chat = draw(st.booleans())
    body: dict[str, Any] = dict(CHAT_BODY if is_chat else COMPLETION_BODY)
    if draw(st.booleans()):
        body |= USAGE
    if stop := draw(
        st.lists(st.sampled_from(["S", "TOP", "a b", "日本", "the st", "bc"]), max_size=2)
    ):
        body["stop"] = stop
        body["include_stop_str_in_output"] = draw(st.booleans())
        body["min_tokens"] = draw(st.sampled_from([0, 0, 3]))
    if is_chat and draw(st.booleans()):
        body["stream_interval"] = draw(st.integers(1, 4))
    middle = draw(st.lists(st.lists(TOKENS, min_size=1, max_size=3), max_size=12))
    last = draw(st.lists(TOKENS, max_size=2))
    finish = draw(st.sampled_from(ENDS))
    # With events an output is vLLM's, and the stream goes on directly after it.
    noted = draw(st.lists(st.sampled_from([None, None, [PREEMPTED]]), min_size=12, max_size=12))
    pieces = [Piece(tokens, events=events) for tokens, events in zip(middle, noted, strict=False)]
    pieces.append(Piece(last, finish, draw(st.none() | st.just("x"))))
    return Case(body, pieces, draw(st.sampled_from(PARSERS)) if is_chat else None, turns)


@settings(max_examples=400, deadline=None)
@given(cases(turns=30))
def test_a_stream_is_the_same_to_the_byte(case: Case) -> None:
    assert ask_fast(case).content == ask_stock(case)


@settings(max_examples=100, deadline=None)
@given(cases(turns=30))
def test_so_it_is_where_nothing_can_be_written_past_asgi(case: Case) -> None:
    client = ask_fast(case, past_asgi=False)
    assert client.num_direct == 0
    assert client.content == ask_stock(case)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 5).flatmap(lambda turns: cases(turns=turns)))
def test_where_outputs_come_faster_than_they_are_written_text_and_usage_are_the_same(
    case: Case,
) -> None:
    fast, stock = ask_fast(case).content, ask_stock(case)
    assert texts_of(fast, is_chat=case.is_chat) == texts_of(stock, is_chat=case.is_chat)


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize(
    "texts",
    [
        ["a", "\u0000\u001f\u007f", '"\\\n\r\t\b\f/', "é", "\u2028", "\ud7ff\ue000", "😀", "b"],
        ["\ud800", "a", "\udfff\ud800", "b"],  # lone halves, which bytes can spell
        ["data: [DONE]\n\n", 'data: {"error": 1}\n\n', '"delta":{"content":"x"'],
        ["{", '"name": "f"', "}"],
        ["<|python_tag|>", "x"],
    ],
)
def test_texts_that_could_be_mistaken_are_not(texts: list[str], parser: str | None) -> None:
    for size in (1, 2, 50):
        tokens = [token for text in texts for token in tokens_of(text)]
        groups = [tokens[at : at + size] for at in range(0, len(tokens), size)]
        pieces = [*map(Piece, groups), Piece(tokens_of("end"), FinishReason.LENGTH)]
        case = Case(CHAT_BODY | USAGE, pieces, parser)
        assert ask_fast(case).content == ask_stock(case)


@pytest.mark.parametrize("body", [CHAT_BODY, COMPLETION_BODY])
def test_the_middle_of_a_stream_is_direct(body: dict[str, Any]) -> None:
    """The others would pass too if nothing ever were."""
    pieces = [*map(Piece, ([token] for token in tokens_of("a stream"))), Piece([], ENDS[0])]
    for more in ({}, {"stop": ["zz"]}, USAGE):
        num_direct = ask_fast(Case(body | more, pieces)).num_direct
        assert num_direct >= len("a stream") - 2  # one letter waits for its stop string


@pytest.mark.parametrize("body", [CHAT_BODY, COMPLETION_BODY])
@pytest.mark.parametrize("pieces", [[], [[97]], [[97, 98]]])
def test_an_answer_of_one_output_or_none_is_the_same(
    body: dict[str, Any], pieces: list[list[int]]
) -> None:
    for last in ([], [99]):
        case = Case(body | {"max_tokens": 1}, [*map(Piece, pieces), Piece(last, ENDS[1])])
        assert ask_fast(case).content == ask_stock(case)


@pytest.mark.parametrize("finish", [FinishReason.ERROR, FinishReason.REPETITION])
@pytest.mark.parametrize("body", [CHAT_BODY, COMPLETION_BODY])
def test_an_unusual_end_is_the_same(body: dict[str, Any], finish: FinishReason) -> None:
    case = Case(body, [*map(Piece, ([97], [98], [99])), Piece([100], finish)])
    assert ask_fast(case).content == ask_stock(case)


@pytest.mark.parametrize("half", [[0xC3], [0xE6, 0xBC]])
def test_half_a_character_that_vllm_has_decoded_is_not_forgotten(half: list[int]) -> None:
    known = [Piece(tokens_of(letter)) for letter in "ababab"]
    pieces = [*known, Piece(half, events=[PREEMPTED]), *known, Piece([], ENDS[1])]
    case = Case(CHAT_BODY, pieces)
    assert ask_fast(case).content == ask_stock(case)
