"""The tokens of an answer that is given in one piece, taken without an output for each step."""

from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.output_processor import RequestState

from app.engine.fast_path.taken_outputs import TakenOutputs, can_be_taken

# Decoded at once where so many are held: together is cheaper, and the event loop waits meanwhile.
_MOST_HELD = 64


class WholeTokens(TakenOutputs):
    """In the place of a DirectStream: nothing of it is written, and nobody is told before the end.
    Only for an answer that nothing but the engine ends: without stop strings.
    """

    __slots__ = ("_held", "_is_after_first")

    text = lane = None  # nothing to write, and what it costs is charged at its end
    is_unwritten = False
    is_whole = True  # it goes on after an output that vLLM has to look at

    def __init__(self, state: RequestState) -> None:
        super().__init__(state)
        self._held: list[int] = []
        self._is_after_first = False

    def begin(self) -> None:
        super().begin()
        self._is_after_first = not self.state.is_prefilling

    def end(self) -> None:
        self._decode()
        super().end()

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
        self._detokenizer.output_text += "".join(map(self._detokenizer.decode_next, held))
        self._detokenizer.token_ids += held


def can_be_whole(state: RequestState) -> bool:
    """Only the end is asked for, and the engine ends it."""
    return can_be_taken(state, RequestOutputKind.FINAL_ONLY) and not state.detokenizer.stop
