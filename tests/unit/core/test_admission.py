import asyncio

import pytest

from app.core.admission import Admission, Ticket, as_duration
from app.core.errors import InvalidRequest, RequestError, Unavailable
from app.core.fair_queue import FairQueue, QueueBounds
from app.core.keys import make_key
from app.core.quota import Grant, QuotaBook, QuotaExceeded
from app.core.tenants import Tenant, make_tenant
from tests.unit.silent_observer import SilentObserver


class Heard:
    """An observer; `held` is what the tenants' running requests hold."""

    def __init__(self) -> None:
        self.refusals: list[tuple[str, str]] = []
        self.held = (0, 0)

    def refused(self, tenant: str, reason: str) -> None:
        self.refusals.append((tenant, reason))

    def reserved(self, tenant: str, num_requests: int, num_tokens: int) -> None:
        self.held = (self.held[0] + num_requests, self.held[1] + num_tokens)

    def first_token(self, tenant: str, after_s: float) -> None: ...
    def waiting(self, tenant: str, change: int) -> None: ...
    def admitted(self, tenant: str, waited_s: float) -> None: ...


def open_queue(num_places: int = 100, max_wait_s: float = 5) -> FairQueue:
    queue = FairQueue(QueueBounds(100, max_wait_s, 1.0), SilentObserver())
    queue.open(num_places, lookahead=0)
    return queue


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def admission(heard: Heard) -> Admission:
    return Admission(QuotaBook(lambda: 1e9), open_queue(), 50, heard)


def ticket(admission: Admission, tenant: str = "t", **limits: int) -> Ticket:
    key = make_key(f"key-{tenant}", "0" * 64, ["infer"], tenant=tenant, limits=limits)
    return admission.open(key, Tenant(tenant))


def test_without_a_length_the_default_holds_and_a_limit_below_it(admission: Admission) -> None:
    assert ticket(admission).bound(None, 1000, 1) == 50
    assert ticket(admission).bound(None, 20, 1) == 20
    assert ticket(admission, max_tokens=10).bound(None, 1000, 1) == 10
    assert ticket(admission).bound(700, 700, 1) == 700


def test_more_than_one_request_may_is_refused_by_name(admission: Admission, heard: Heard) -> None:
    for opened, asked, n, param in (
        (ticket(admission, max_tokens=10), 11, 1, "max_tokens"),
        (ticket(admission, max_n=2), 1, 3, "n"),
    ):
        with pytest.raises(InvalidRequest) as raised:
            opened.bound(asked, asked, n)
        assert raised.value.param == param
        assert opened.refusal is raised.value
    assert [limit for _, limit in heard.refusals] == ["max_tokens", "max_n"]


def test_several_prompts_are_one_request_with_all_their_tokens(
    admission: Admission, heard: Heard
) -> None:
    async def use() -> None:
        opened = ticket(admission, concurrent_requests=1, tokens_per_minute=100)
        await opened.enter(10, 20, 1)
        await opened.enter(10, 20, 1)
        assert heard.held == (1, 60)
        with pytest.raises(InvalidRequest):
            await opened.enter(10, 31, 1)
        await opened.close(15)
        await opened.close(15)
        assert heard.held == (0, 0)
        left = admission.store.standings(opened.owners)["tokens"].remaining
        assert left == 100 - 20 - 15

    asyncio.run(use())


def test_prompts_get_in_together_or_not_at_all(admission: Admission, heard: Heard) -> None:
    async def use() -> None:
        opened, late = (
            ticket(admission, tokens_per_minute=100, requests_per_minute=3) for _ in range(2)
        )
        for each in (opened, opened, late, late):
            each.foresee(30)
        await opened.enter(10, 20, 1)
        assert heard.held == (1, 60)
        for _ in range(2):
            with pytest.raises(QuotaExceeded):
                await late.enter(10, 20, 1)
        assert heard.refusals == [("t", "tokens_per_minute")]
        await opened.enter(10, 20, 1)
        assert heard.held == (1, 60)
        await late.close(0)
        await opened.close(0)
        left = admission.store.standings(opened.owners)
        assert (left["tokens"].remaining, left["requests"].remaining) == (80, 2)

    asyncio.run(use())


def test_prompts_that_never_fit_together_are_refused_before_one_gets_in(
    admission: Admission, heard: Heard
) -> None:
    opened = ticket(admission, tokens_per_minute=100)
    opened.foresee(60)
    with pytest.raises(InvalidRequest) as raised:
        opened.foresee(41)
    assert (raised.value.status, raised.value.param) == (400, "max_tokens")
    assert opened.refusal is raised.value
    assert heard.refusals == [("t", "request_exceeds_limit")]


def test_a_request_that_never_entered_costs_nothing(admission: Admission, heard: Heard) -> None:
    async def use() -> None:
        opened = ticket(admission, requests_per_minute=1)
        await opened.close(0)
        with pytest.raises(RequestError):
            await opened.enter(1, 1, 1)
        again = ticket(admission, requests_per_minute=1)
        await again.enter(1, 1, 1)
        assert again.headers["x-ratelimit-remaining-requests"] == "0"
        third = ticket(admission, requests_per_minute=1)
        assert not third.is_decided
        with pytest.raises(QuotaExceeded):
            await third.enter(1, 1, 1)
        assert third.is_decided
        assert third.headers["x-ratelimit-reset-requests"] == "1m0s"
        assert heard.refusals == [("t", "requests_per_minute")]

    asyncio.run(use())


def test_a_request_that_leaves_while_it_waits_has_spent_nothing(heard: Heard) -> None:
    async def use() -> None:
        queue = open_queue(1)
        admission = Admission(QuotaBook(lambda: 1e9), queue, 50, heard)
        first = ticket(admission, "a", requests_per_minute=1)
        place = await first.enter(1, 1, 1)
        second = ticket(admission, "b", requests_per_minute=2)
        waiting = asyncio.create_task(second.enter(10, 10, 1))
        await asyncio.sleep(0)
        assert heard.held == (2, 22)
        waiting.cancel()
        await asyncio.wait({waiting})
        await second.close(0)
        assert heard.held == (1, 2)
        left = admission.store.standings(second.owners)
        assert left["requests"].remaining == 2
        first.leave(place)
        await first.close(1)
        assert (queue.num_taken, queue.num_waiting) == (0, 0)

    asyncio.run(use())


def test_a_request_that_waits_too_long_is_a_503_that_says_when(heard: Heard) -> None:
    async def use() -> None:
        admission = Admission(QuotaBook(lambda: 1e9), open_queue(1, 0.01), 50, heard)
        first, second = ticket(admission, "a"), ticket(admission, "b")
        await first.enter(1, 1, 1)
        with pytest.raises(Unavailable) as raised:
            await second.enter(1, 1, 1)
        assert raised.value.code == "queue_timeout"
        assert raised.value.retry_after_s
        assert second.refusal is raised.value
        assert heard.refusals == [("b", "queue_timeout")]
        await second.close(0)
        await first.close(0)
        assert heard.held == (0, 0)
        assert admission.queue.num_taken == 0

    asyncio.run(use())


class SlowStore(QuotaBook):
    """Has to ask elsewhere, and may be waited for."""

    def __init__(self) -> None:
        super().__init__(lambda: 1e9)
        self.is_asked, self.may_go_on = asyncio.Event(), asyncio.Event()

    async def start(self, grant: Grant) -> None:
        self.is_asked.set()
        await self.may_go_on.wait()
        await super().start(grant)


def test_a_request_closed_while_its_store_is_asked_never_gets_to_the_engine(heard: Heard) -> None:
    async def use() -> None:
        store = SlowStore()
        admission = Admission(store, open_queue(1), 50, heard)
        opened = ticket(admission, requests_per_minute=2, tokens_per_minute=100)
        entering = asyncio.create_task(opened.enter(10, 10, 1))
        await store.is_asked.wait()
        await opened.close(0)
        store.may_go_on.set()
        with pytest.raises(Unavailable):
            await entering
        assert (heard.held, admission.queue.num_taken, heard.refusals) == ((0, 0), 0, [])
        left = store.standings(opened.owners)
        assert (left["requests"].remaining, left["tokens"].remaining) == (2, 100)

    asyncio.run(use())


def test_a_store_that_cannot_be_asked_is_a_refusal_of_its_own(heard: Heard) -> None:
    class AwayStore(QuotaBook):
        async def start(self, grant: Grant) -> None:
            raise Unavailable("away", code="limits_unavailable", retry_after_s=1)

    async def use() -> None:
        admission = Admission(AwayStore(lambda: 1e9), open_queue(1), 50, heard)
        opened = ticket(admission)
        with pytest.raises(Unavailable) as raised:
            await opened.enter(10, 10, 1)
        assert opened.refusal is raised.value
        assert heard.refusals == [("t", "limits_unavailable")]
        await opened.close(0)
        assert (heard.held, admission.queue.num_taken) == ((0, 0), 0)

    asyncio.run(use())


def test_cache_salts_keep_tenants_apart_unless_they_share() -> None:
    one, two = Tenant("one"), Tenant("two")
    shared = make_tenant("shared", {}, True)
    salts = [tenant.cache_salt(asked) for tenant in (one, two) for asked in (None, "", "x", "two:")]
    salts += [shared.cache_salt(asked) for asked in (None, "one:", "two:x", "x")]
    one_without, one_empty, *rest = salts
    assert one_without == one_empty == "one:"
    assert len({one_without, *rest}) == len(salts) - 2  # "two" without a salt and with an empty one
    assert shared.cache_salt(None) is None


def test_durations_are_written_as_openai_writes_them() -> None:
    written = [as_duration(seconds) for seconds in (0, 0.0204, 2.5, 59.9, 90, 119.7, 3600)]
    assert written == ["0ms", "20ms", "2.5s", "59.9s", "1m30s", "2m0s", "60m0s"]
