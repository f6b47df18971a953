import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.evaluate.measures import (
    Position,
    agreement,
    bootstrap_recovery,
    divergence,
    divergences,
    perplexity,
)


def distribution(weights: list[float]) -> dict[str, float]:
    return {str(token): math.log(weight / sum(weights)) for token, weight in enumerate(weights)}


def position(logprob: float, likeliest: str = "0") -> Position:
    return Position(logprob, likeliest, {"0": logprob})


def test_the_recovery_is_the_share_of_the_baselines_accuracy_that_is_kept() -> None:
    pairs = [(True, True)] * 94 + [(True, False)] * 4 + [(False, True)] * 2
    estimate = bootstrap_recovery(pairs)
    assert estimate is not None
    assert estimate.value == pytest.approx(100 * 96 / 98)
    assert estimate.low < estimate.value < estimate.high


def test_the_interval_covers_the_truth_nineteen_times_in_twenty() -> None:
    """Simulated: the baseline is right in 90 %; the candidate loses 5 % of that and is right in
    30 % of the rest."""
    rng = random.Random(1)
    truth = 100 * (0.9 * 0.95 + 0.1 * 0.3) / 0.9
    covered = 0
    for seed in range(60):
        pairs = []
        for _ in range(300):
            baseline = rng.random() < 0.9
            pairs.append((baseline, rng.random() < (0.95 if baseline else 0.3)))
        estimate = bootstrap_recovery(pairs, seed, resamples=200)
        assert estimate is not None
        covered += estimate.low <= truth <= estimate.high
    assert 52 <= covered < 60


def test_answering_together_narrows_the_interval() -> None:
    """What pairing is for: models that err on the same questions differ in little."""
    together = [(True, True)] * 90 + [(False, False)] * 10
    apart = [(True, True)] * 80 + [(True, False)] * 10 + [(False, True)] * 10
    narrow, wide = bootstrap_recovery(together), bootstrap_recovery(apart)
    assert narrow is not None
    assert wide is not None
    assert narrow.value == wide.value == 100
    assert narrow.high - narrow.low < wide.high - wide.low


def test_the_same_seed_gives_the_same_interval() -> None:
    pairs = [(True, True)] * 90 + [(True, False)] * 10
    assert bootstrap_recovery(pairs, 3) == bootstrap_recovery(pairs, 3)


def test_a_baseline_that_answers_nothing_has_no_recovery() -> None:
    assert bootstrap_recovery([(False, True)] * 5) is None
    assert bootstrap_recovery([]) is None


def test_a_uniform_guess_among_four_has_a_perplexity_of_four() -> None:
    assert perplexity([position(math.log(0.25))] * 7) == pytest.approx(4)


def test_agreement_counts_the_likeliest_tokens() -> None:
    baseline = [position(-1, token) for token in "abcd"]
    candidate = [position(-2, token) for token in "abcx"]
    assert agreement(baseline, candidate) == 0.75


def test_the_divergence_over_all_tokens_is_the_textbooks() -> None:
    p, q = [0.5, 0.3, 0.2], [0.4, 0.4, 0.2]
    textbook = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert divergence(distribution(p), distribution(q)) == pytest.approx(textbook)
    assert divergence(distribution(p), distribution(p)) == 0


def test_a_divergence_is_per_position() -> None:
    baseline = [Position(-1, "0", distribution([1, 1])), Position(-1, "0", distribution([1, 3]))]
    found = divergences(baseline, baseline[::-1])
    assert len(found) == 2
    assert all(value > 0 for value in found)


weights = st.lists(st.floats(0.01, 1), min_size=8, max_size=8)


@given(weights, weights, st.integers(1, 8))
def test_a_divergence_over_the_top_tokens_never_exceeds_the_whole(
    p: list[float], q: list[float], k: int
) -> None:
    whole = [distribution(p), distribution(q)]
    top = [dict(sorted(one.items(), key=lambda item: -item[1])[:k]) for one in whole]
    assert 0 <= divergence(*top) <= divergence(*whole) + 1e-9
