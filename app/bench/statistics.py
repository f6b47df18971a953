"""Figures of a run, from the outcomes of its requests."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.bench.outcome import Outcome

QUANTILES = (0.50, 0.90, 0.95, 0.99)


def quantile(ordered: Sequence[float], q: float) -> float:
    """The nearest-rank quantile: always a value that was measured. `ordered` is not empty."""
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]


@dataclass(frozen=True)
class Distribution:
    count: int
    mean: float
    quantiles: dict[float, float]


def distribution(values: Iterable[float | None]) -> Distribution | None:
    """None when nothing was measured."""
    ordered = sorted(value for value in values if value is not None)
    if not ordered:
        return None
    mean = sum(ordered) / len(ordered)
    return Distribution(len(ordered), mean, {q: quantile(ordered, q) for q in QUANTILES})


@dataclass(frozen=True)
class Summary:
    num_requests: int
    num_output_tokens: int
    wall_s: float
    latency_s: Distribution | None
    first_token_s: Distribution | None
    per_token_s: Distribution | None
    errors: dict[str, int]

    @property
    def requests_per_s(self) -> float:
        return (self.num_requests - sum(self.errors.values())) / self.wall_s

    @property
    def tokens_per_s(self) -> float:
        return self.num_output_tokens / self.wall_s


def summarize(outcomes: Sequence[Outcome]) -> Summary:
    """`outcomes` is not empty. Failed requests count in `errors` and in no latency."""
    served = [outcome for outcome in outcomes if outcome.error is None]
    began = min(outcome.started_s for outcome in outcomes)
    ended = max(outcome.ended_s for outcome in outcomes)
    return Summary(
        num_requests=len(outcomes),
        num_output_tokens=sum(outcome.num_output_tokens for outcome in served),
        wall_s=max(ended - began, 1e-9),
        latency_s=distribution(outcome.latency_s for outcome in served),
        first_token_s=distribution(outcome.first_token_s for outcome in served),
        per_token_s=distribution(outcome.per_token_s for outcome in served),
        errors=dict(Counter(outcome.error for outcome in outcomes if outcome.error)),
    )
