"""A stream whose tokens are turned into text and written here."""

from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.detokenizer import FastIncrementalDetokenizer, check_stop_strings
from vllm.v1.engine.output_processor import RequestState

from app.core.meter import Meter
from app.core.raw_response import RawResponse
from app.engine.fast_path.wording import Pattern


class DirectStream:
    """`texts`: what has come and is not written yet. Its tokens are detokenized by vLLM's own
    detokenizer of the request, which stays as vLLM would have it: any output may be vLLM's again.
    """

    __slots__ = (
        *("state", "stats", "response", "meter", "texts", "is_unwritten", "_pattern", "_token_ids"),
        *("_detokenizer", "_decode_next", "_longest_stop", "_is_immediate"),
    )

    def __init__(
        self, state: RequestState, pattern: Pattern, response: RawResponse, meter: Meter
    ) -> None:
        self.state, self.stats = state, state.stats
        self.response, self.meter = response, meter
        self.texts: list[str] = []
        self.is_unwritten = False  # whether it is among those that are to write
        self._pattern = pattern
        self._token_ids: list[int] = []
        self._detokenizer: FastIncrementalDetokenizer = state.detokenizer
        self._decode_next = self._detokenizer.decode_next
        self._longest_stop = max(map(len, self._detokenizer.stop), default=0)
        self._is_immediate = not self._longest_stop and state.stream_interval == 1

    def take(self, token_ids: list[int]) -> bool:
        """New tokens. False where they may end the stream or are none: vLLM has to look."""
        pieces = [self._decode_next(token_id) for token_id in token_ids]
        if not self._is_immediate or not pieces:
            return self._take_checked(token_ids, pieces)
        # Not added to its text: nobody reads what was sent, and copying it for each token is slow.
        self._detokenizer.token_ids += token_ids
        self.texts += pieces
        self._token_ids += token_ids
        self.meter.count(len(token_ids))
        return True

    def _take_checked(self, token_ids: list[int], pieces: list[str]) -> bool:
        detokenizer, text = self._detokenizer, "".join(pieces)
        near = detokenizer.output_text[-self._longest_stop :] + text
        may_stop = check_stop_strings(near, len(text), detokenizer.stop, include_in_output=True)
        if may_stop or not pieces:
            decode_again(detokenizer, pieces)
            return False
        detokenizer.token_ids += token_ids
        detokenizer.output_text += text
        if (new_ids := self._due(token_ids)) is not None:
            self.texts.append(detokenizer.get_next_output_text(finished=False, delta=True))
            self._token_ids += new_ids
            self.meter.count(len(new_ids))
        return True

    def _due(self, token_ids: list[int]) -> list[int] | None:
        """The tokens to send now; None where the stream's interval is not full."""
        state = self.state
        if state.stream_interval > 1:
            token_ids = self._detokenizer.token_ids[state.sent_tokens_offset :]
            if len(token_ids) < state.stream_interval:
                return None
            state.sent_tokens_offset += len(token_ids)
        return token_ids

    def write(self) -> None:
        """All texts in one chunk."""
        texts, self.texts = self.texts, []
        if chunk := self._pattern.chunk("".join(texts)):
            self.response.write(chunk)

    def take_rest(self) -> tuple[str | None, list[int]]:
        """What is not written yet, None where all is; and the tokens since the last call."""
        rest = "".join(self.texts) if self.texts else None
        token_ids, self._token_ids = self._token_ids, []
        self.texts.clear()
        return rest, token_ids


def can_be_direct(state: RequestState) -> bool:
    """One sequence, in deltas of text, by the detokenizer that we know."""
    return (
        state.parent_req is None
        and state.output_kind is RequestOutputKind.DELTA
        and not state.streaming_input
        and state.logprobs_processor.num_logprobs is None
        and type(state.detokenizer) is FastIncrementalDetokenizer
    )


def decode_again(detokenizer: FastIncrementalDetokenizer, pieces: list[str]) -> None:
    """Have it give `pieces` for the next tokens, which are those that it has just decoded."""
    rest = pieces[::-1]

    def decode_next(_: int) -> str:
        piece = rest.pop()
        if not rest:
            del detokenizer.decode_next  # the method of its class again
        return piece

    if rest:
        detokenizer.decode_next = decode_next
