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

WHOLE_PROMPT, CUT_PROMPT = [32, 195, 169], [32, 195]  # which ends with half a character
REPLACEMENT = list("\ufffd".encode())  # which says by itself what a cut character does
PROMPTS = {
    "whole": WHOLE_PROMPT,
    "cut": CUT_PROMPT,
    "replaced": [*WHOLE_PROMPT, *REPLACEMENT],
    "special": [*b"secret", *REPLACEMENT, 256 + len(WORDS)],
    "all special": [*b"secret", *[256 + len(WORDS)] * 9],
    "empty": [],
}


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
@given(
    tokens=TOKENS,
    skips=st.booleans(),
    spaces=st.booleans(),
    prompt=st.one_of(st.sampled_from(sorted(PROMPTS)).map(PROMPTS.__getitem__), TOKENS),
)
def test_texts_are_what_the_detokenizer_says(
    tokens: list[int], prompt: list[int], *, skips: bool, spaces: bool
) -> None:
    params = SamplingParams(skip_special_tokens=skips, spaces_between_special_tokens=spaces)
    theirs, ours = (detokenizer_of(params, prompt) for _ in range(2))
    KNOWN.share_with(ours, prompt)
    assert [ours.decode_next(token) for token in tokens] == [
        theirs.decode_next(token) for token in tokens
    ]


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
def test_nothing_of_a_prompt_is_kept_for_the_next(prompt: list[int]) -> None:
    texts = KnownTexts(TOKENIZER)
    for each in (prompt, WHOLE_PROMPT):
        detokenizer = detokenizer_of(SamplingParams(), each)
        texts.share_with(detokenizer, each)
        said = [detokenizer.decode_next(token) for token in b"Oh, oh"]
    assert "".join(said) == "Oh, oh"
    assert detokenizer.known.items() <= {token: chr(token) for token in b"Oh, oh"}.items()


@settings(max_examples=100)
@given(before=TOKENS, tokens=TOKENS)
def test_a_detokenizer_that_was_used_before_is_taken_over_as_it_is(
    before: list[int], tokens: list[int]
) -> None:
    theirs, ours = (detokenizer_of(SamplingParams()) for _ in range(2))
    for token in before:
        assert ours.decode_next(token) == theirs.decode_next(token)
    KNOWN.share_with(ours)
    assert [ours.decode_next(token) for token in tokens] == [
        theirs.decode_next(token) for token in tokens
    ]


def test_what_is_not_the_tokens_own_text_is_not_kept_whatever_is_believed_of_the_prompt() -> None:
    prompt = PROMPTS["special"]
    detokenizer = detokenizer_of(SamplingParams(), prompt)
    KnownTexts(TOKENIZER).share_with(detokenizer, prompt)
    detokenizer.is_whole = True
    assert "secret" in detokenizer.decode_next(ord("a"))
    assert detokenizer.known == {}


@pytest.mark.parametrize("prompt", [WHOLE_PROMPT, CUT_PROMPT])
def test_a_token_is_decoded_once(prompt: list[int]) -> None:
    detokenizer = detokenizer_of(SamplingParams(), prompt)
    KnownTexts(TOKENIZER).share_with(detokenizer, prompt)
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
    assert decoded == ([97, 98] if prompt is WHOLE_PROMPT else [97, 98, 97])


@pytest.mark.parametrize("decoder", [decoders.Metaspace(), decoders.WordPiece(), None])
def test_other_decoders_are_asked_each_time(decoder: Any) -> None:
    backend = Tokenizer(models.BPE(vocab={"a": 0}, merges=[]))
    if decoder is not None:
        backend.decoder = decoder
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    detokenizer = detokenizer_of(SamplingParams())
    KnownTexts(tokenizer).share_with(detokenizer, WHOLE_PROMPT)
    assert type(detokenizer) is FastIncrementalDetokenizer
