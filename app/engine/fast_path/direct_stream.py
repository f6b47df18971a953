"""A stream whose tokens are turned into text and written here."""

from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.detokenizer import FastIncrementalDetokenizer, check_stop_strings
from vllm.v1.engine.output_processor import RequestState

from app.core.meter import Meter
from app.core.raw_response import RawResponse
from app.engine.fast_path.taken_outputs import TakenOutputs, can_be_taken
from app.engine.fast_path.wording import Pattern


class DirectStream(TakenOutputs):
    """`text`: what has come and is not written yet; None: nothing.

    A step touches every stream, and by the next one the CPU has forgotten them: so what a token
    needs stands here.
    """

    __slots__ = (
        *("response", "clock", "lane", "text", "is_unwritten", "_meter", "_pattern", "_token_ids"),
        *("_longest_stop", "_is_immediate"),
    )
    is_whole = False

    def __init__(
        self,
        state: RequestState,
        pattern: Pattern,
        response: RawResponse,
        meter: Meter,
    ) -> None:
        super().__init__(state)
        self.response = response
        self.clock, self._meter = meter.clock, meter
        self.lane = meter.place.lane if meter.place is not None else None
        self.text: str | None = None
        self.is_unwritten = False  # whether it is among those that are to write
        self._pattern = pattern
        self._token_ids: list[int] = []
        self._longest_stop = max(map(len, self._detokenizer.stop), default=0)
        self._is_immediate = not self._longest_stop and state.stream_interval == 1

    def end(self) -> None:
        if self._is_immediate:
            self._detokenizer.token_ids += self._token_ids
        super().end()
        self._meter.completion_tokens += len(self._token_ids)

    def take(self, token_ids: list[int]) -> int | None:
        """New tokens. Returns how many go to the client now; None where they may end the stream or
        are none: vLLM has to look."""
        if not token_ids:
            return None
        texts = list(map(self._detokenizer.decode_next, token_ids))
        if not self._is_immediate:
            return self._take_checked(token_ids, texts)
        # Not added to its text: nobody reads what was sent, and copying it for each token is slow.
        text = texts[0] if len(texts) == 1 else "".join(texts)
        self.text = text if self.text is None else self.text + text
        self._token_ids += token_ids
        return len(token_ids)

    def _take_checked(self, token_ids: list[int], texts: list[str]) -> int | None:
        detokenizer, text = self._detokenizer, "".join(texts)
        near = detokenizer.output_text[-self._longest_stop :] + text
        if check_stop_strings(near, len(text), detokenizer.stop, include_in_output=True):
            decode_again(detokenizer, texts)
            return None
        detokenizer.token_ids += token_ids
        detokenizer.output_text += text
        new_ids = self._due(token_ids)
        if new_ids:
            new_text = detokenizer.get_next_output_text(finished=False, delta=True)
            self.text = (self.text or "") + new_text
            self._token_ids += new_ids
        return len(new_ids)

    def _due(self, token_ids: list[int]) -> list[int]:
        """The tokens to send now; none where the stream's interval is not full."""
        state = self.state
        if state.stream_interval > 1:
            token_ids = self._detokenizer.token_ids[state.sent_tokens_offset :]
            if len(token_ids) < state.stream_interval:
                return []
            state.sent_tokens_offset += len(token_ids)
        return token_ids

    def write(self) -> None:
        """All text in one chunk."""
        text, self.text = self.text, None
        if text is not None and (chunk := self._pattern.chunk(text)):
            self.response.write(chunk)

    def take_rest(self) -> tuple[str | None, list[int]]:
        """What is not written yet, None where all is; and the tokens since the last call."""
        rest, self.text = self.text, None
        token_ids, self._token_ids = self._token_ids, []
        return rest, token_ids


def can_be_direct(state: RequestState) -> bool:
    return can_be_taken(state, RequestOutputKind.DELTA)


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
