import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from app.core.errors import InvalidRequest
from app.core.key_limits import Limits, Owner
from app.core.quota import Grant, QuotaBook, QuotaExceeded


class Clock:
    def __init__(self) -> None:
        self.now_s = 86_400.0 * 20_000

    def __call__(self) -> float:
        return self.now_s


def owner(name: str = "a", **limits: int) -> Owner:
    return Owner(name, f"The key {name}", Limits(**limits))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def book(clock: Clock) -> QuotaBook:
    return QuotaBook(clock)


def done(step: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(step)


def reserve(book: QuotaBook, tokens: int, *owners: Owner) -> Grant:
    grant: Grant = done(book.reserve(owners, tokens))
    done(book.start(grant))
    return grant


def refused(book: QuotaBook, tokens: int, *owners: Owner) -> QuotaExceeded:
    with pytest.raises(QuotaExceeded) as raised:
        reserve(book, tokens, *owners)
    return raised.value


def test_what_was_reserved_and_not_used_comes_back(book: QuotaBook) -> None:
    one = owner(tokens_per_minute=100)
    grant = reserve(book, 80, one)
    assert refused(book, 30, one).limit == "tokens_per_minute"
    done(book.settle(grant, 50))
    assert book.standings([one])["tokens"].remaining == 50
    reserve(book, 50, one)


def test_settling_twice_gives_back_once(book: QuotaBook) -> None:
    one = owner(tokens_per_minute=100, concurrent_requests=1)
    first = reserve(book, 60, one)
    done(book.settle(first, 60))
    second = reserve(book, 40, one)
    done(book.settle(first, 0))
    assert refused(book, 1, one).limit in ("tokens_per_minute", "concurrent_requests")
    done(book.settle(second, 40))
    assert book.standings([one])["tokens"].remaining == 0


def test_retry_after_is_when_it_will_fit(book: QuotaBook, clock: Clock) -> None:
    one = owner(tokens_per_minute=60)
    done(book.settle(reserve(book, 60, one), 60))
    error = refused(book, 30, one)
    assert error.retry_after_s == 30
    assert (error.status, error.code) == (429, "rate_limit_exceeded")
    clock.now_s += 29
    refused(book, 30, one)
    clock.now_s += 1
    reserve(book, 30, one)


def test_a_reservation_that_comes_back_late_does_not_double_the_minute(
    book: QuotaBook, clock: Clock
) -> None:
    """The bucket would have been full again after a minute, and then the reservation returned."""
    one = owner(tokens_per_minute=100)
    long = reserve(book, 100, one)
    clock.now_s += 60
    refused(book, 100, one)
    done(book.settle(long, 0))
    reserve(book, 100, one)
    refused(book, 1, one)


def test_requests_are_counted_by_minute_and_a_waiting_one_can_be_given_back(
    book: QuotaBook,
) -> None:
    one = owner(requests_per_minute=2)
    waiting = done(book.reserve((one,), 0))
    reserve(book, 0, one)
    assert refused(book, 0, one).limit == "requests_per_minute"
    done(book.settle(waiting, 0))
    reserve(book, 0, one)
    assert refused(book, 0, one).limit == "requests_per_minute"


def test_concurrency_ends_with_the_request(book: QuotaBook) -> None:
    one = owner(concurrent_requests=1)
    grant = reserve(book, 1, one)
    assert refused(book, 1, one).limit == "concurrent_requests"
    done(book.extend(grant, 5))
    done(book.settle(grant, 6))
    reserve(book, 1, one)


def test_what_never_fits_is_a_mistake_also_where_it_comes_in_parts(book: QuotaBook) -> None:
    one = owner(tokens_per_minute=100)
    grant = reserve(book, 60, one)
    with pytest.raises(InvalidRequest):
        done(book.extend(grant, 41))
    done(book.extend(grant, 40))


def test_a_day_is_a_day_in_utc_and_tokens_count_for_the_one_they_end_on(
    book: QuotaBook, clock: Clock
) -> None:
    one = owner(tokens_per_day=100)
    clock.now_s += 86_390
    done(book.settle(reserve(book, 100, one), 60))
    late = reserve(book, 40, one)
    assert refused(book, 41, one).retry_after_s == 10  # when the day ends
    assert refused(book, 40, one).retry_after_s == 4  # when what runs is likely to
    clock.now_s += 10
    done(book.settle(reserve(book, 60, one), 50))
    assert refused(book, 11, one).limit == "tokens_per_day"
    done(book.settle(late, 30))
    reserve(book, 20, one)
    assert refused(book, 1, one).limit == "tokens_per_day"


def test_a_reservation_extended_after_midnight_gives_back_all_it_did_not_use(
    book: QuotaBook, clock: Clock
) -> None:
    one = owner(tokens_per_day=100)
    clock.now_s += 86_390
    late = reserve(book, 40, one)
    clock.now_s += 20
    done(book.extend(late, 50))
    done(book.settle(late, 45))
    reserve(book, 55, one)
    assert refused(book, 1, one).limit == "tokens_per_day"


def test_a_clock_set_back_across_midnight_begins_no_day_twice(
    book: QuotaBook, clock: Clock
) -> None:
    one = owner(tokens_per_day=100)
    clock.now_s += 86_401
    done(book.settle(reserve(book, 100, one), 60))
    clock.now_s -= 2
    done(book.settle(reserve(book, 40, one), 30))
    clock.now_s += 2
    reserve(book, 10, one)
    assert refused(book, 1, one).limit == "tokens_per_day"


def test_a_clock_that_was_far_ahead_holds_no_day_up(book: QuotaBook, clock: Clock) -> None:
    one = owner(tokens_per_day=100)
    clock.now_s += 300 * 86_400
    done(book.settle(reserve(book, 100, one), 100))
    clock.now_s -= 300 * 86_400
    assert refused(book, 1, one).limit == "tokens_per_day"
    clock.now_s += 86_400
    reserve(book, 100, one)


def test_key_and_tenant_are_charged_together_or_not_at_all(book: QuotaBook) -> None:
    key, other = owner("key", tokens_per_minute=100), owner("other", tokens_per_minute=100)
    tenant = owner("tenant", tokens_per_minute=150)
    reserve(book, 100, key, tenant)
    assert refused(book, 60, other, tenant).limit == "tokens_per_minute"
    assert book.standings([other])["tokens"].remaining == 100
    reserve(book, 50, other, tenant)


def test_what_never_fits_is_not_a_matter_of_time(book: QuotaBook) -> None:
    for limit in ("tokens_per_minute", "tokens_per_day"):
        with pytest.raises(InvalidRequest, match="may need 101 tokens"):
            reserve(book, 101, owner(limit, **{limit: 100}))


def test_a_limit_that_appears_counts_what_already_runs(book: QuotaBook) -> None:
    grant = reserve(book, 90, owner())
    limited = owner(tokens_per_minute=100, concurrent_requests=1)
    refused(book, 1, limited)
    assert book.standings([limited])["tokens"].remaining == 10
    done(book.settle(grant, 0))
    assert book.standings([limited])["tokens"].remaining == 100


def test_a_request_that_ends_brings_no_older_limits_back(book: QuotaBook, clock: Clock) -> None:
    """It was admitted without one; its end must not make the bucket new, and so full again."""
    old = reserve(book, 50, owner())
    limited = owner(tokens_per_minute=100)
    done(book.settle(reserve(book, 50, limited), 50))
    done(book.settle(old, 50))
    assert refused(book, 60, limited).limit == "tokens_per_minute"
    clock.now_s += 6
    assert book.standings([limited])["tokens"].remaining == 10


def test_the_headers_show_the_owner_with_the_least_left(book: QuotaBook) -> None:
    key, tenant = owner("key", tokens_per_minute=100), owner("tenant", tokens_per_minute=120)
    reserve(book, 60, tenant)
    shown = book.standings([key, tenant])
    assert (shown["tokens"].limit, shown["tokens"].remaining) == (120, 60)
    assert "requests" not in shown
