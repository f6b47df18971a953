"""The texts of tokens, looked up where they need not be decoded.

A decoder of bytes (Llama 3, Qwen, Mistral's later ones) makes of tokens the characters of all their
bytes. So a token that begins and ends with whole characters adds the same text wherever whole
characters stand before it, and decoding it again, with a window of tokens each time, says nothing
new. Where it is left out it is not missed: the decoder only compares with what stood before.
"""

from typing import Any

from tokenizers import Tokenizer, decoders
from vllm.v1.engine.detokenizer import FastIncrementalDetokenizer


class KnowingDetokenizer(FastIncrementalDetokenizer):  # type: ignore[misc]
    """vLLM's, which looks up what was decoded before. Made of one of vLLM's by `KnownTexts`."""

    known: dict[int, str]
    is_whole: bool  # whether the text so far ends with a whole character, for certain

    def decode_next(self, next_token_id: int) -> str:
        text = self.known.get(next_token_id) if self.is_whole else None
        if text is None:
            text = super().decode_next(next_token_id)
            if text and self.is_whole:
                self.known[next_token_id] = text
            self.is_whole = bool(text)
        return text


class KnownTexts:
    """Of one tokenizer: by whether special tokens are skipped, the text of each token that has been
    decoded once. At most one entry for each token of the vocabulary."""

    def __init__(self, tokenizer: Any) -> None:
        backend = getattr(tokenizer, "_tokenizer", None)
        is_of_bytes = type(backend) is Tokenizer and type(backend.decoder) is decoders.ByteLevel
        self._by_skipping: dict[bool, dict[int, str]] | None = None
        if is_of_bytes:
            self._by_skipping = {True: {}, False: {}}

    def share_with(self, detokenizer: Any, *, is_whole: bool) -> None:
        """Have a detokenizer look up what it can. `is_whole`: whether its prompt was made of a
        text, so that no character is cut by the prompt's end."""
        if self._by_skipping is None or type(detokenizer) is not FastIncrementalDetokenizer:
            return
        if detokenizer.spaces_between_special_tokens:  # else texts depend on what stands before
            detokenizer.__class__ = KnowingDetokenizer
            detokenizer.known = self._by_skipping[bool(detokenizer.skip_special_tokens)]
            detokenizer.is_whole = is_whole
