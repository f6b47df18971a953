"""What one request used of the engine, counted where the tokens come out of it."""

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class Meter:
    """Counts of one HTTP request, summed over all sequences that it started."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    finish_reason: str | None = None


# Set by the gateway for each request; the engine's side finds its meter by it.
current_meter: ContextVar[Meter | None] = ContextVar("current_meter", default=None)
