import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.bench.outcome import Outcome
from app.bench.statistics import QUANTILES, distribution, quantile, summarize


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_a_quantile_is_a_measured_value_that_its_share_does_not_exceed(values: list[float]) -> None:
    ordered = sorted(values)
    for q in QUANTILES:
        found = quantile(ordered, q)
        assert found in values
        assert sum(value <= found for value in values) >= q * len(values) - 1e-9


def test_the_quantiles_of_a_hundred_values_are_their_ranks() -> None:
    assert [quantile(list(range(1, 101)), q) for q in QUANTILES] == [50, 90, 95, 99]


def test_nothing_measured_is_not_zero() -> None:
    assert distribution([None, None]) is None


def test_failed_requests_count_as_errors_and_in_no_latency() -> None:
    served = Outcome(due_s=1, started_s=1, ended_s=3, chunk_times=[2, 2.5, 3], num_output_tokens=5)
    failed = Outcome(due_s=1, started_s=1, ended_s=101, error="status 503")
    summary = summarize([served, failed])
    assert summary.errors == {"status 503": 1}
    assert summary.latency_s is not None
    assert summary.latency_s.quantiles[0.99] == 2
    assert summary.requests_per_s == pytest.approx(1 / 100)
    assert summary.num_output_tokens == 5


def test_time_per_token_does_not_depend_on_how_tokens_were_merged_into_chunks() -> None:
    merged = Outcome(due_s=0, ended_s=5, chunk_times=[1, 5], num_output_tokens=5)
    single = Outcome(due_s=0, ended_s=5, chunk_times=[1, 2, 3, 4, 5], num_output_tokens=5)
    assert merged.per_token_s == single.per_token_s == 1


def test_waiting_caused_by_a_late_generator_counts() -> None:
    assert Outcome(due_s=1, started_s=9, ended_s=10).latency_s == 9
