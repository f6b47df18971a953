"""A stream whose tokens are turned into text and written here."""

from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.detokenizer import FastIncrementalDetokenizer, check_stop_strings
from vllm.v1.engine.output_processor import RequestState

from app.core.meter import Meter
from app.core.raw_response import RawResponse
from app.engine.fast_path.token_texts import TokenTexts
from app.engine.fast_path.wording import Pattern


class DirectStream:
    """`text`: what has come and is not written yet; None: nothing. Its tokens are detokenized by
    vLLM's own detokenizer of the request, which stays as vLLM would have it.

    A step touches every stream, and by the next one the CPU has forgotten them: what a token needs
    stands here, and the request's own records hear of it when the stream is handed back.
    """

    __slots__ = (
        *("state", "response", "clock", "lane", "text", "is_unwritten", "last_token_s"),
        *("_meter", "_pattern", "_token_ids", "_num_before", "_detokenizer", "_texts"),
        *("_longest_stop", "_is_immediate"),
    )
    is_whole = False

    def __init__(
        self,
        state: RequestState,
        pattern: Pattern,
        response: RawResponse,
        meter: Meter,
        known: dict[int, str] | None = None,
    ) -> None:
        self.state, self.response = state, response
        self.clock, self._meter = meter.clock, meter
        self.lane = meter.place.lane if meter.place is not None else None
        self.text: str | None = None
        self.is_unwritten = False  # whether it is among those that are to write
        self.last_token_s = 0.0  # by the engine's clock
        self._pattern = pattern
        self._token_ids: list[int] = []
        self._num_before = 0
        self._detokenizer: FastIncrementalDetokenizer = state.detokenizer
        self._texts = TokenTexts(self._detokenizer, known)
        self._longest_stop = max(map(len, self._detokenizer.stop), default=0)
        self._is_immediate = not self._longest_stop and state.stream_interval == 1

    def begin(self) -> None:
        """Its outputs are taken from now on."""
        self._num_before = len(self._detokenizer.token_ids)
        self._texts.begin()
        if self.state.stats is not None:
            self.last_token_s = self.state.stats.last_token_ts

    def end(self) -> None:
        """They are vLLM's again, and its records are as if they had always been."""
        if self._is_immediate:
            self._detokenizer.token_ids += self._token_ids
        if (stats := self.state.stats) is not None:
            stats.num_generation_tokens += len(self._detokenizer.token_ids) - self._num_before
            stats.last_token_ts = self.last_token_s
        self._meter.completion_tokens += len(self._token_ids)

    def take(self, token_ids: list[int]) -> int | None:
        """New tokens. Returns how many go to the client now; None where they may end the stream or
        are none: vLLM has to look."""
        if not token_ids:
            return None
        texts = self._texts.of(token_ids)
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
