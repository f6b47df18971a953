"""The texts of tokens, looked up where they need not be decoded.

A decoder of bytes (Llama 3, Qwen, Mistral's later ones) makes of tokens the characters of all their
bytes. So a token that begins and ends with whole characters adds the same text wherever whole
characters stand before it, and decoding it again, with a window of tokens each time, says nothing
new. Where it is left out it is not missed: the decoder only compares with what stood before.
"""

from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer, decoders
from vllm.v1.engine.detokenizer import FastIncrementalDetokenizer

# Enough tokens to see how a prompt's text ends; it is taken for cut where they are all special.
_TAIL = 8
_CUT = "\ufffd"  # what half a character is decoded to


class KnowingDetokenizer(FastIncrementalDetokenizer):  # type: ignore[misc]
    """vLLM's, which looks up what was decoded before. Made of one of vLLM's by `KnownTexts`, as
    vLLM makes it and its request's other records in one call.

    What one client's tokens teach, another's answer is made of: so nothing is kept but what a token
    is decoded to by itself.
    """

    known: dict[int, str]
    is_whole: bool  # whether the text so far ends with a whole character, for certain

    def decode_next(self, next_token_id: int) -> str:
        text = self.known.get(next_token_id) if self.is_whole else None
        if text is None:
            text = super().decode_next(next_token_id)
            if text and self.is_whole and text == self._decoded([next_token_id]):
                self.known[next_token_id] = text
            self.is_whole = bool(text)
        return text

    def _decoded(self, token_ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(token_ids, skip_special_tokens=self.skip_special_tokens)
        return text

    def begin_behind(self, prompt: Sequence[int]) -> None:
        """Nothing has been decoded yet. Behind a cut character the decoder gives the whole prompt
        with the first token."""
        tail = self._decoded(prompt[-_TAIL:])
        self.is_whole = bool(tail) and not tail.endswith(_CUT)


class KnownTexts:
    """Of one tokenizer: by whether special tokens are skipped, the text of each token that has been
    decoded once. At most one entry for each token of the vocabulary."""

    def __init__(self, tokenizer: Any) -> None:
        backend = getattr(tokenizer, "_tokenizer", None)
        is_of_bytes = type(backend) is Tokenizer and type(backend.decoder) is decoders.ByteLevel
        self._by_skipping: dict[bool, dict[int, str]] | None = None
        if is_of_bytes:
            self._by_skipping = {True: {}, False: {}}

    def share_with(self, detokenizer: Any, unused_behind: Sequence[int] = ()) -> None:
        """Have a detokenizer look up what it can; `unused_behind`: the prompt of one that has
        decoded nothing yet."""
        if self._by_skipping is None or type(detokenizer) is not FastIncrementalDetokenizer:
            return
        if detokenizer.spaces_between_special_tokens:  # else texts depend on what stands before
            detokenizer.__class__ = KnowingDetokenizer
            detokenizer.known = self._by_skipping[bool(detokenizer.skip_special_tokens)]
            detokenizer.begin_behind(unused_behind)
