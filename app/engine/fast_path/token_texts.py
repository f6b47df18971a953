"""The texts of tokens, looked up where they need not be decoded.

A decoder of bytes (Llama 3, Qwen, Mistral's later ones) makes of tokens the characters of all their
bytes. So a token that begins and ends with whole characters adds the same text wherever whole
characters stand before it, and decoding it again, with a window of tokens each time, says nothing
new. Where it is left out it is not missed: the decoder only compares with what stood before.
"""

from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer, decoders
from vllm.v1.engine.detokenizer import FastIncrementalDetokenizer


class KnownTexts:
    """Of one tokenizer: by whether special tokens are skipped, the text of each token that has been
    decoded once. At most one entry for each token of the vocabulary."""

    def __init__(self, tokenizer: Any) -> None:
        backend = getattr(tokenizer, "_tokenizer", None)
        is_of_bytes = type(backend) is Tokenizer and type(backend.decoder) is decoders.ByteLevel
        self._by_skipping: dict[bool, dict[int, str]] | None = None
        if is_of_bytes:
            self._by_skipping = {True: {}, False: {}}

    def of(self, detokenizer: FastIncrementalDetokenizer) -> dict[int, str] | None:
        """None where texts depend on what stands before them."""
        if self._by_skipping is None or not detokenizer.spaces_between_special_tokens:
            return None
        return self._by_skipping[bool(detokenizer.skip_special_tokens)]


class TokenTexts:
    """Of one request: gives what its detokenizer's `decode_next` would."""

    __slots__ = ("_decode_next", "_is_whole", "_known")

    def __init__(
        self, detokenizer: FastIncrementalDetokenizer, known: dict[int, str] | None
    ) -> None:
        self._decode_next, self._known = detokenizer.decode_next, known
        self._is_whole = False  # whether the text so far ends with a whole character, for certain

    def begin(self) -> None:
        """The detokenizer may have been used past this."""
        self._is_whole = False

    def of(self, token_ids: Iterable[int]) -> list[str]:
        """In order; each token once."""
        known = self._known
        if known is None:
            return [self._decode_next(token_id) for token_id in token_ids]
        texts = []
        for token_id in token_ids:
            text = known.get(token_id) if self._is_whole else None
            if text is None:
                text = self._decode_next(token_id)
                if text and self._is_whole:
                    known[token_id] = text
                self._is_whole = bool(text)
            texts.append(text)
        return texts
