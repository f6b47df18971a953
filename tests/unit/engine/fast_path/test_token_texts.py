"""Looked up or decoded, the texts are the same, whatever bytes the tokens are."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast
from vllm.sampling_params import SamplingParams
from vllm.v1.engine.detokenizer import FastIncrementalDetokenizer

from app.engine.fast_path.token_texts import KnownTexts, TokenTexts
from tests.unit.engine.fast_path.byte_tokenizer import WORDS, byte_tokenizer

PROMPT = [32, 195]  # which ends with half a character


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


def detokenizer_of(params: SamplingParams) -> FastIncrementalDetokenizer:
    request: Any = SimpleNamespace(request_id="1", prompt_token_ids=PROMPT, sampling_params=params)
    return FastIncrementalDetokenizer(TOKENIZER, request)


@settings(max_examples=500)
@given(tokens=TOKENS, rest=TOKENS, skips=st.booleans(), spaces=st.booleans())
def test_texts_are_what_the_detokenizer_says(
    tokens: list[int], rest: list[int], skips: bool, spaces: bool
) -> None:
    params = SamplingParams(skip_special_tokens=skips, spaces_between_special_tokens=spaces)
    theirs, ours = detokenizer_of(params), detokenizer_of(params)
    texts = TokenTexts(ours, KNOWN.of(ours))
    assert texts.of(tokens) == [theirs.decode_next(token) for token in tokens]
    # From here on the detokenizer is vLLM's again.
    assert [ours.decode_next(token) for token in rest] == [
        theirs.decode_next(token) for token in rest
    ]


def test_a_token_is_decoded_once() -> None:
    detokenizer = detokenizer_of(SamplingParams())
    known = KnownTexts(TOKENIZER).of(detokenizer)
    assert TokenTexts(detokenizer, known).of([97, 98, 97, 98])[1:] == ["b", "a", "b"]
    assert known == {97: "a", 98: "b"}


@pytest.mark.parametrize("decoder", [decoders.Metaspace(), decoders.WordPiece(), None])
def test_other_decoders_are_asked_each_time(decoder: Any) -> None:
    backend = Tokenizer(models.BPE(vocab={"a": 0}, merges=[]))
    if decoder is not None:
        backend.decoder = decoder
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    assert KnownTexts(tokenizer).of(detokenizer_of(SamplingParams())) is None
