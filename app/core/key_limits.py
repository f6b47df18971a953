"""What a key or a tenant may use, and what that means in token buckets.

A bucket holds one minute's worth and is refilled evenly, as in RFC 2697's committed rate. What is
reserved by requests that still run counts as if it lay in the bucket: level + reserved never exceed
the capacity. So in any stretch of t seconds at most capacity * (1 + t / 60) is really used, however
reservations and returns interleave.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from math import inf

from app.core.errors import SettingsError

MINUTE_S = 60.0


@dataclass(frozen=True)
class Limits:
    """None: no limit. `max_tokens` and what follows it bound a single request."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_requests: int | None = None
    tokens_per_day: int | None = None
    max_tokens: int | None = None
    max_n: int | None = None
    max_prompts: int | None = None
    max_sequences: int | None = None
    max_chars: int | None = None
    max_messages: int | None = None
    max_tools: int | None = None
    max_logprobs: int | None = None
    max_prompt_logprobs: int | None = None
    max_schema_bytes: int | None = None

    @cached_property
    def of_request(self) -> Mapping[str, int]:
        """Those that take the place of the service's own bound of the same name."""
        return self._those_of(OF_REQUEST)

    @cached_property
    def of_tokens(self) -> Mapping[str, int]:
        """Those that no single request's tokens may exceed."""
        return self._those_of(("tokens_per_minute", "tokens_per_day"))

    def _those_of(self, names: Sequence[str]) -> Mapping[str, int]:
        found = {name: getattr(self, name) for name in names}
        return {name: most for name, most in found.items() if most is not None}


@dataclass(frozen=True)
class Owner:
    """Whose limits count: `name` is unique among keys and tenants, `title` is for people."""

    name: str
    title: str
    limits: Limits


OF_REQUEST = (
    *("max_n", "max_prompts", "max_sequences", "max_chars", "max_messages", "max_tools"),
    *("max_logprobs", "max_prompt_logprobs", "max_schema_bytes"),
)

NO_LIMITS = Limits()
LIMIT_NAMES = tuple(field.name for field in fields(Limits))


def make_limits(table: object, label: str) -> Limits:
    """Checked limits. Raises SettingsError naming what is wrong."""
    if not isinstance(table, dict):
        raise SettingsError(f"{label}: limits has to be a table of limits.")
    for name, value in table.items():
        if name not in LIMIT_NAMES:
            known = ", ".join(LIMIT_NAMES)
            raise SettingsError(f"{label}: limit {str(name)[:40]!r} is none of {known}.")
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise SettingsError(f"{label}: {name} has to be a whole number from 1.")
    return Limits(**table)


class Bucket:
    """A token bucket; `held` is reserved and may come back. None of its numbers goes below zero."""

    __slots__ = ("capacity", "held", "level", "updated_s")

    def __init__(self, capacity: int, held: int, now_s: float) -> None:
        """Full, but for what is held already."""
        self.capacity, self.held, self.updated_s = capacity, held, now_s
        self.level = float(self.room)

    @property
    def rate(self) -> float:
        """Refill per second."""
        return self.capacity / MINUTE_S

    @property
    def room(self) -> int:
        """What the level may rise to."""
        return max(0, self.capacity - self.held)

    def resize(self, capacity: int) -> None:
        self.capacity = capacity
        self.level = min(self.level, float(self.room))

    def refill(self, now_s: float) -> None:
        """Bring it up to now. No clock can empty it; one that is set back stops it no longer than
        for that moment."""
        gained = max(0.0, now_s - self.updated_s) * self.rate
        self.level = min(self.level + gained, float(self.room))
        self.updated_s = now_s

    def wait_s(self, amount: int) -> float:
        """Until `amount` can be taken; infinite while it waits for what is held to come back."""
        if amount <= self.level:
            return 0.0
        return (amount - self.level) / self.rate if amount <= self.room else inf

    def take(self, amount: int) -> None:
        """Only where `wait_s` is 0."""
        self.level -= amount
        self.held += amount

    def settle(self, held: int, used: int) -> None:
        """Of `held`, `used` is spent and the rest comes back."""
        self.held -= held
        self.level = min(self.level + max(0, held - used), float(self.room))

    @property
    def reset_s(self) -> float:
        """Until it is as full as it gets."""
        return (self.room - self.level) / self.rate
