"""Figures of a run, from the outcomes of its requests."""

import itertools
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
class Objectives:
    """What an answer has to keep to be a good one; None asks nothing."""

    latency_s: float | None = None
    first_token_s: float | None = None
    per_token_s: float | None = None

    @property
    def are_stated(self) -> bool:
        return (self.latency_s, self.first_token_s, self.per_token_s) != (None, None, None)

    def are_met(self, outcome: Outcome) -> bool:
        """An answer without the measurement, as the time between the tokens of one, keeps it."""
        pairs = (
            (outcome.latency_s, self.latency_s),
            (outcome.first_token_s, self.first_token_s),
            (outcome.per_token_s, self.per_token_s),
        )
        return all(seen is None or asked is None or seen <= asked for seen, asked in pairs)


@dataclass(frozen=True)
class Summary:
    """`per_token_s` is each request's mean after its first token; `gap_s` is the time between one
    chunk and the next, over all requests. `good_per_s` is None when nothing was asked.
    """

    num_requests: int
    num_prompt_tokens: int
    num_output_tokens: int
    wall_s: float
    latency_s: Distribution | None
    first_token_s: Distribution | None
    per_token_s: Distribution | None
    gap_s: Distribution | None
    good_per_s: float | None
    errors: dict[str, int]

    @property
    def num_failed(self) -> int:
        return sum(self.errors.values())

    @property
    def requests_per_s(self) -> float:
        return (self.num_requests - self.num_failed) / self.wall_s

    @property
    def tokens_per_s(self) -> float:
        return self.num_output_tokens / self.wall_s


def summarize(outcomes: Sequence[Outcome], objectives: Objectives | None = None) -> Summary:
    """`outcomes` is not empty. Failed requests count in `errors` and in no latency."""
    asked = objectives or Objectives()
    served = [outcome for outcome in outcomes if outcome.error is None]
    began = min(outcome.started_s for outcome in outcomes)
    wall_s = max(max(outcome.ended_s for outcome in outcomes) - began, 1e-9)
    num_good = sum(asked.are_met(outcome) for outcome in served)
    return Summary(
        num_requests=len(outcomes),
        num_prompt_tokens=sum(outcome.num_prompt_tokens for outcome in served),
        num_output_tokens=sum(outcome.num_output_tokens for outcome in served),
        wall_s=wall_s,
        latency_s=distribution(outcome.latency_s for outcome in served),
        first_token_s=distribution(outcome.first_token_s for outcome in served),
        per_token_s=distribution(outcome.per_token_s for outcome in served),
        gap_s=distribution(gap for outcome in served for gap in gaps(outcome)),
        good_per_s=num_good / wall_s if asked.are_stated else None,
        errors=dict(Counter(outcome.error for outcome in outcomes if outcome.error)),
    )


def gaps(outcome: Outcome) -> Iterable[float]:
    return (after - before for before, after in itertools.pairwise(outcome.chunk_times))
