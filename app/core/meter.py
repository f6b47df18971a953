"""What one request asks of the engine and what it used, for the engine's side of the gateway."""

import asyncio
import math
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from app.core.admission import Ticket
from app.core.fair_queue import Place
from app.core.request_bounds import as_number

# How the APIs name the number of tokens that a client wants at most, the newer name first.
_ASKED_FOR = ("max_completion_tokens", "max_output_tokens", "max_tokens")
# Of all completions that come whole, by the longest that they may be; 16 of 4,096 tokens with 20
# each would hold up every stream for half a minute. One of them, the default, is within.
MAX_WHOLE_LOGPROBS = 4096 * 21
# A cancelled task needs some turns of the event loop, and no more.
_LAST_WORDS_S, _LOOK_S = 0.5, 0.002


@dataclass(slots=True)
class StreamClock:
    """When the last event of an answer went out, by `perf_counter`, and the Prometheus histogram of
    the gaps between events: None before the first. Whoever writes an event keeps it.
    """

    last_event_s: float = 0.0
    gaps: Any = None


@dataclass(slots=True)
class Meter:
    """Counts of one HTTP request, summed over all sequences that it started.

    `model`: what the body names, empty where it names none; known to be served only once there are
    prompt tokens, which count from when the engine gets them. `asked_tokens`: the completion length
    that the body names; vLLM itself only sees it cut down to what the context has left.
    """

    model: str = ""
    asked_tokens: int | None = None
    asked_in: str = ""
    has_begun: bool = False  # the engine has given its first token
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    whole_logprobs: int = 0
    finish_reason: str | None = None
    ticket: Ticket | None = None
    place: Place | None = None  # while the engine works for it; the last one, where it has several
    clock: StreamClock = field(default_factory=StreamClock)
    answers: list[Any] = field(default_factory=list)  # async generators, one for each prompt

    @property
    def is_over(self) -> bool:
        """Whether the engine's answers have all been read to their end, or closed."""
        return all(answer.ag_frame is None for answer in self.answers)

    async def end(self) -> None:
        """The engine's answers are over, and what they came to is counted. Of a client that leaves,
        vLLM's routes drop a stream unclosed, or cancel a task of theirs and do not wait for it."""
        for answer in self.answers:
            with suppress(RuntimeError):  # that task is at it
                await answer.aclose()
        give_up_s = monotonic() + _LAST_WORDS_S
        for answer in self.answers:
            while answer.ag_running and monotonic() < give_up_s:  # noqa: ASYNC110 (it has no event)
                await asyncio.sleep(_LOOK_S)

    def count(self, num_tokens: int) -> None:
        """Completion tokens that have just come."""
        self.completion_tokens += num_tokens
        if self.place is not None:
            self.place.charge(num_tokens)

    @property
    def waited_s(self) -> float | None:
        """In the gateway's queue; None where there is none."""
        return self.ticket.waited_s if self.ticket else None

    @property
    def first_token_s(self) -> float | None:
        """When the engine gave its first token, from the arrival on; None: not (yet)."""
        return self.ticket.first_token_s if self.ticket else None

    def note_asked(self, body: Mapping[str, Any]) -> None:
        if isinstance(model := body.get("model"), str):
            self.model = model
        for name in _ASKED_FOR:
            value = as_number(body.get(name))  # as vLLM's lenient models read it
            if value is not None and math.isfinite(value):
                self.asked_tokens, self.asked_in = int(value), name
                return

    def overflow(self, prompt_tokens: int, max_model_len: int) -> str:
        """Why the request does not fit into the context, with the numbers; empty where it does."""
        asked = self.asked_tokens or 0
        if prompt_tokens + asked <= max_model_len:
            return ""
        return (
            f"The context length is {max_model_len} tokens: the prompt has {prompt_tokens} and "
            f"{self.asked_in or 'max_tokens'} asks for {asked}, {prompt_tokens + asked} together."
        )

    def whole_logprobs_excess(self, num_completion: int, num_each: int) -> str:
        """Why an answer that comes whole could have too many log probabilities with those of one
        more prompt's completions: `num_completion` tokens at most, with `num_each` alternatives;
        empty where it could not."""
        self.whole_logprobs += num_completion * (num_each + 1)
        if self.whole_logprobs <= MAX_WHOLE_LOGPROBS:
            return ""
        return (
            f"The log probabilities of the answer may come to {self.whole_logprobs}; without stream"
            f" it may have {MAX_WHOLE_LOGPROBS}. Ask for fewer tokens, choices or alternatives."
        )


# Set by the gateway for each request; the engine's side finds its meter by it.
current_meter: ContextVar[Meter | None] = ContextVar("current_meter", default=None)
