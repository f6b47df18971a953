"""What is measured between a baseline and a candidate; arithmetic only."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

RESAMPLES = 5000
INTERVAL = 0.95
ROUNDING = 1e-6  # of a probability, in what vLLM sends of it

# The next-token distribution at one position: log-probability by token, of the most likely tokens.
Distribution = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Position:
    """One token of the held-out text, as a model saw it coming."""

    logprob: float  # of the token that is really there
    likeliest: str
    distribution: Distribution


@dataclass(frozen=True, slots=True)
class Estimate:
    value: float
    low: float
    high: float


def bootstrap_recovery(
    pairs: Sequence[tuple[bool, bool]], seed: int = 0, resamples: int = RESAMPLES
) -> Estimate | None:
    """Percent of the baseline's accuracy that the candidate keeps, with a percentile interval.

    `pairs` holds for each question whether baseline and candidate answered it. Questions are drawn
    with replacement, both answers together (Efron and Tibshirani 1993, chapters 8 and 13). None
    where the baseline answers nothing.
    """
    if not any(baseline for baseline, _ in pairs):
        return None
    rng = random.Random(seed)  # noqa: S311 (a resampling, not a secret)
    draws = sorted(recovery(rng.choices(pairs, k=len(pairs))) for _ in range(resamples))
    return Estimate(recovery(pairs), *percentiles(draws))


def recovery(pairs: Sequence[tuple[bool, bool]]) -> float:
    baseline = sum(pair[0] for pair in pairs)
    return 100.0 * sum(pair[1] for pair in pairs) / max(baseline, 1)


def percentiles(ordered: Sequence[float]) -> tuple[float, float]:
    tail = (1 - INTERVAL) / 2
    return ordered[int(tail * len(ordered))], ordered[int((1 - tail) * len(ordered)) - 1]


def perplexity(positions: Sequence[Position]) -> float:
    return math.exp(-sum(position.logprob for position in positions) / len(positions))


def agreement(baseline: Sequence[Position], candidate: Sequence[Position]) -> float:
    """The share of positions at which both would greedily choose the same token."""
    same = (a.likeliest == b.likeliest for a, b in zip(baseline, candidate, strict=True))
    return sum(same) / len(baseline)


def divergences(baseline: Sequence[Position], candidate: Sequence[Position]) -> list[float]:
    """KL(baseline || candidate) in nats at each position."""
    return [
        divergence(a.distribution, b.distribution) for a, b in zip(baseline, candidate, strict=True)
    ]


def divergence(baseline: Distribution, candidate: Distribution) -> float:
    """KL over the tokens that both list, and one more outcome: any other token.

    Merging outcomes can only lose divergence (the data-processing inequality), so this is a lower
    bound of the KL over the whole vocabulary, and equal to it where both list all of it.
    """
    shared = baseline.keys() & candidate.keys()
    total = sum(
        math.exp(baseline[token]) * (baseline[token] - candidate[token]) for token in shared
    )
    rest_p, rest_q = (
        max(0.0, 1.0 - sum(math.exp(one[token]) for token in shared))
        for one in (baseline, candidate)
    )
    # What rounding of log-probabilities leaves of a complete list is not an outcome.
    if rest_p > ROUNDING:
        total += rest_p * math.log(rest_p / max(rest_q, ROUNDING))
    return max(0.0, total)
