"""Sampling parameters as the engine gets them, checked once for all that ask for the same."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.exceptions import VLLMClientError
from vllm.sampling_params import SamplingParams

_MAX_KNOWN = 256
# All that a plain chat may say about how its answer is sampled, but for how long it may be.
_SAMPLING = (
    *("stream", "seed", "n", "ignore_eos", "temperature", "top_p", "top_k", "min_p"),
    *("presence_penalty", "frequency_penalty", "repetition_penalty"),
)


class KnownParams:
    """Of one model. `defaults`: the server's; `processor`: vLLM's of requests; `tasks`: what the
    model is for."""

    def __init__(self, defaults: dict[str, Any], processor: Any, tasks: Sequence[str]) -> None:
        self._defaults, self._processor, self._tasks = defaults, processor, tasks
        self._known: dict[Any, SamplingParams] = {}

    def of(self, fields: Mapping[str, Any], max_tokens: int) -> SamplingParams | None:
        """For a plain chat; None where vLLM refuses them. `max_tokens`, of which the rest does not
        depend, is at least 1."""
        stop = fields.get("stop")
        asked = tuple(stop) if isinstance(stop, list) else stop, *map(fields.get, _SAMPLING)
        known = self._known.get(asked)
        if known is None:
            try:
                known = self._checked(fields, max_tokens)
            except (VLLMClientError, ValueError):
                return None
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[asked] = known
        params = copy.copy(known)  # what they share, nobody changes any more
        params.max_tokens = max_tokens
        return params

    def _checked(self, fields: Mapping[str, Any], max_tokens: int) -> SamplingParams:
        """Raises VLLMClientError or ValueError."""
        request = ChatCompletionRequest.model_validate(dict(fields))
        params = request.to_sampling_params(max_tokens, self._defaults)
        prompt = {"type": "token", "prompt_token_ids": [0]}
        made = self._processor.process_inputs("known", prompt, params, self._tasks)
        checked: SamplingParams = made.sampling_params
        return checked
