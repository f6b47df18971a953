"""What streams and whole answers have in common whose outputs are taken from the engine's."""

from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.detokenizer import FastIncrementalDetokenizer
from vllm.v1.engine.output_processor import RequestState

from app.engine.fast_path.token_texts import KnowingDetokenizer

_DETOKENIZERS = (FastIncrementalDetokenizer, KnowingDetokenizer)


class TakenOutputs:
    """Of one request. Its tokens are detokenized by its own detokenizer, which stays as vLLM would
    have it; the request's other records hear of them when the outputs are handed back.
    """

    __slots__ = ("_detokenizer", "_num_before", "last_token_s", "state")

    def __init__(self, state: RequestState) -> None:
        self.state = state
        self.last_token_s = 0.0  # by the engine's clock
        self._detokenizer: FastIncrementalDetokenizer = state.detokenizer
        self._num_before = 0

    def begin(self) -> None:
        """They are taken from now on."""
        self._num_before = len(self._detokenizer.token_ids)
        if self.state.stats is not None:
            self.last_token_s = self.state.stats.last_token_ts

    def end(self) -> None:
        """They are vLLM's again, and its records are as if they had always been."""
        if (stats := self.state.stats) is not None:
            stats.num_generation_tokens += len(self._detokenizer.token_ids) - self._num_before
            stats.last_token_ts = self.last_token_s


def can_be_taken(state: RequestState, kind: RequestOutputKind) -> bool:
    """One sequence, of nothing but text, by the detokenizer that we know."""
    return (
        state.parent_req is None
        and state.output_kind is kind
        and not state.streaming_input
        and state.logprobs_processor.num_logprobs is None
        and type(state.detokenizer) in _DETOKENIZERS
    )
