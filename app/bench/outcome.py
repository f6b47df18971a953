"""What became of one request."""

from dataclasses import dataclass, field


@dataclass
class Outcome:
    """Times are seconds of one monotonic clock. `chunk_times` has one entry per chunk that carried
    text; a request that was not streamed has none. `error` is a short kind, never a message.
    """

    due_s: float
    started_s: float = 0.0
    ended_s: float = 0.0
    chunk_times: list[float] = field(default_factory=list)
    num_prompt_tokens: int = 0
    num_output_tokens: int = 0
    error: str | None = None

    @property
    def latency_s(self) -> float:
        """From when the request was due, so that a late generator cannot hide waiting."""
        return self.ended_s - self.due_s

    @property
    def first_token_s(self) -> float | None:
        return self.chunk_times[0] - self.due_s if self.chunk_times else None

    @property
    def per_token_s(self) -> float | None:
        """Mean time between tokens after the first, whatever the server merged into a chunk."""
        if len(self.chunk_times) < 2 or self.num_output_tokens < 2:
            return None
        return (self.chunk_times[-1] - self.chunk_times[0]) / (self.num_output_tokens - 1)
