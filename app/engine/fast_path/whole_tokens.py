"""The tokens of an answer that is given in one piece, taken without an output for each step."""

from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.detokenizer import FastIncrementalDetokenizer
from vllm.v1.engine.output_processor import RequestState

from app.engine.fast_path.token_texts import TokenTexts

# Decoded at once where so many are held: together is cheaper, and the event loop waits meanwhile.
_MOST_HELD = 64


class WholeTokens:
    """In the place of a DirectStream: nothing of it is written, and nobody is told before the end.
    Only for an answer that nothing but the engine ends: without stop strings.
    """

    __slots__ = (
        *("state", "last_token_s", "_detokenizer", "_held", "_is_after_first"),
        *("_num_before", "_texts"),
    )

    text = lane = None  # nothing to write, and what it costs is charged at its end
    is_unwritten = False
    is_whole = True  # it goes on after an output that vLLM has to look at

    def __init__(self, state: RequestState, known: dict[int, str] | None) -> None:
        self.state = state
        self.last_token_s = 0.0
        self._detokenizer: FastIncrementalDetokenizer = state.detokenizer
        self._texts = TokenTexts(self._detokenizer, known)
        self._held: list[int] = []
        self._num_before = 0
        self._is_after_first = False

    def begin(self) -> None:
        """Its outputs are taken from now on."""
        self._num_before = len(self._detokenizer.token_ids)
        self._texts.begin()
        self._is_after_first = not self.state.is_prefilling
        if self.state.stats is not None:
            self.last_token_s = self.state.stats.last_token_ts

    def end(self) -> None:
        """They are vLLM's again, and its records are as if they had always been."""
        self._decode()
        if (stats := self.state.stats) is not None:
            stats.num_generation_tokens += len(self._detokenizer.token_ids) - self._num_before
            stats.last_token_ts = self.last_token_s

    def take(self, token_ids: list[int]) -> int | None:
        """None where vLLM has to look: there are none, or they are the first."""
        if not self._is_after_first:
            return None
        self._held += token_ids
        if len(self._held) >= _MOST_HELD:
            self._decode()
        return len(token_ids) or None

    def _decode(self) -> None:
        held, self._held = self._held, []  # once, also where it fails
        self._detokenizer.output_text += "".join(self._texts.of(held))
        self._detokenizer.token_ids += held


def can_be_whole(state: RequestState) -> bool:
    """One sequence of plain text, of which only the end is asked for, and that the engine ends."""
    return (
        state.parent_req is None
        and state.output_kind is RequestOutputKind.FINAL_ONLY
        and not state.streaming_input
        and state.logprobs_processor.num_logprobs is None
        and type(state.detokenizer) is FastIncrementalDetokenizer
        and not state.detokenizer.stop
    )
