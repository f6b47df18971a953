"""Looked up or decoded, the texts are the same, whatever bytes the tokens are."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast
from vllm.sampling_params import SamplingParams
from vllm.v1.engine.detokenizer import FastIncrementalDetokenizer

from app.engine.fast_path.token_texts import KnowingDetokenizer, KnownTexts
from tests.unit.engine.fast_path.byte_tokenizer import WORDS, byte_tokenizer

CUT_PROMPT = [32, 195]  # which ends with half a character
PROMPTS = {False: CUT_PROMPT, True: [32, 195, 169]}  # by whether they end with a whole one


def tokenizer_with_specials() -> PreTrainedTokenizerFast:
    backend = Tokenizer.from_str(byte_tokenizer()._tokenizer.to_str())
    backend.add_special_tokens([AddedToken("<end>", special=True)])
    return PreTrainedTokenizerFast(tokenizer_object=backend)


TOKENIZER = tokenizer_with_specials()
KNOWN = KnownTexts(TOKENIZER)  # it learns from all examples
NUM_TOKENS = 256 + len(WORDS) + 1
CHARACTERS = st.sampled_from(["a", "é", "漢", "😀", "\ufffd", " "]).map(lambda c: list(c.encode()))
TOKENS = st.lists(
    st.one_of(st.integers(0, NUM_TOKENS - 1).map(lambda token: [token]), CHARACTERS), max_size=40
).map(lambda runs: [token for run in runs for token in run])


def detokenizer_of(
    params: SamplingParams, prompt: Sequence[int] = CUT_PROMPT
) -> FastIncrementalDetokenizer:
    request: Any = SimpleNamespace(request_id="1", prompt_token_ids=prompt, sampling_params=params)
    return FastIncrementalDetokenizer(TOKENIZER, request)


@settings(max_examples=500)
@given(tokens=TOKENS, skips=st.booleans(), spaces=st.booleans(), is_whole=st.booleans())
def test_texts_are_what_the_detokenizer_says(
    tokens: list[int], *, skips: bool, spaces: bool, is_whole: bool
) -> None:
    params = SamplingParams(skip_special_tokens=skips, spaces_between_special_tokens=spaces)
    theirs, ours = (detokenizer_of(params, PROMPTS[is_whole]) for _ in range(2))
    KNOWN.share_with(ours, is_whole=is_whole)
    assert [ours.decode_next(token) for token in tokens] == [
        theirs.decode_next(token) for token in tokens
    ]


@settings(max_examples=100)
@given(before=TOKENS, tokens=TOKENS)
def test_a_detokenizer_that_was_used_before_is_taken_over_as_it_is(
    before: list[int], tokens: list[int]
) -> None:
    theirs, ours = (detokenizer_of(SamplingParams()) for _ in range(2))
    for token in before:
        assert ours.decode_next(token) == theirs.decode_next(token)
    KNOWN.share_with(ours, is_whole=False)
    assert [ours.decode_next(token) for token in tokens] == [
        theirs.decode_next(token) for token in tokens
    ]


@pytest.mark.parametrize("is_whole", [False, True])
def test_a_token_is_decoded_once(*, is_whole: bool) -> None:
    detokenizer = detokenizer_of(SamplingParams(), PROMPTS[is_whole])
    KnownTexts(TOKENIZER).share_with(detokenizer, is_whole=is_whole)
    assert isinstance(detokenizer, KnowingDetokenizer)
    decoded: list[int] = []
    step = detokenizer._protected_step

    def noted(token: int) -> str | None:
        decoded.append(token)
        text: str | None = step(token)
        return text

    detokenizer._protected_step = noted
    texts = [detokenizer.decode_next(token) for token in [97, 98, 97, 98, 97]]
    assert texts[1:] == ["b", "a", "b", "a"]
    # A token after what may be half a character says nothing of itself.
    assert decoded == ([97, 98] if is_whole else [97, 98, 97])


@pytest.mark.parametrize("decoder", [decoders.Metaspace(), decoders.WordPiece(), None])
def test_other_decoders_are_asked_each_time(decoder: Any) -> None:
    backend = Tokenizer(models.BPE(vocab={"a": 0}, merges=[]))
    if decoder is not None:
        backend.decoder = decoder
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    detokenizer = detokenizer_of(SamplingParams())
    KnownTexts(tokenizer).share_with(detokenizer, is_whole=True)
    assert type(detokenizer) is FastIncrementalDetokenizer
