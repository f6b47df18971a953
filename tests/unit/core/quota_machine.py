"""All that can happen to a reservation, in any order, against a plain model: for every store.

The model is a list of what was really used and when; the promises are about that list alone.
"""

from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.core.admission import QuotaStore
from app.core.errors import RequestError
from app.core.key_limits import LIMIT_NAMES, Limits, Owner
from app.core.quota import DAY_S, Grant

NAMES = ("key:a", "key:b", "tenant:t")
MOST = 100  # of every limit, before a configuration change lowers it


@dataclass(frozen=True)
class Counters:
    """What a store remembers of an owner; of a bucket its level and capacity."""

    num_running: int
    num_waiting: int
    reserved_tokens: int
    day_tokens: int
    requests: tuple[float, int] | None
    tokens: tuple[float, int] | None


@dataclass
class Running:
    """A request of the model; `parts` are the times and tokens of what it reserved."""

    grant: Grant
    store: QuotaStore
    owners: tuple[str, ...]
    parts: list[tuple[float, int]]

    @property
    def reserved(self) -> int:
        return sum(tokens for _, tokens in self.parts)

    def used(self, tokens: int, was_started: bool, day: int) -> "Used":
        """That it used `tokens`, of the earliest parts first, and ended on `day`."""
        spent: list[tuple[float, int]] = []
        for at_s, reserved in self.parts:
            spent.append((at_s, min(tokens, reserved)))
            tokens -= spent[-1][1]
        return Used(self.owners, spent, was_started, day)


@dataclass(frozen=True)
class Used:
    owners: tuple[str, ...]
    parts: list[tuple[float, int]]
    was_started: bool
    day: int


class QuotaMachine(RuleBasedStateMachine):
    """A subclass has the store, its clock, and a look into its counters: the three that raise
    NotImplementedError here. No ABC, as a state machine has a metaclass of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = float(DAY_S * 20_000 - 90)
        self.limits = dict.fromkeys(NAMES, Limits(MOST, MOST, 4, 4 * MOST))
        self.highest = dict(self.limits)
        self.running: list[Running] = []
        self.log: list[Used] = []

    @property
    def store(self) -> QuotaStore:
        raise NotImplementedError  # each subclass has its own; nothing is left to do here

    def run(self, step: Coroutine[Any, Any, Any]) -> Any:
        raise NotImplementedError  # each subclass has its own; nothing is left to do here

    def advance(self, seconds: float) -> None:
        self.now_s += seconds

    def counters(self) -> Mapping[str, Counters]:
        raise NotImplementedError  # each subclass has its own; nothing is left to do here

    def owners(self, key: str) -> tuple[Owner, ...]:
        return tuple(Owner(name, name, self.limits[name]) for name in (key, "tenant:t"))

    @rule(key=st.sampled_from(NAMES[:2]), tokens=st.integers(1, MOST))
    def admit(self, key: str, tokens: int) -> None:
        owners, store = self.owners(key), self.store
        try:
            grant = self.run(store.reserve(owners, tokens))
        except RequestError:
            return
        self.note_admitted(grant, store, owners, tokens)

    def note_admitted(
        self, grant: Grant, store: QuotaStore, owners: tuple[Owner, ...], tokens: int
    ) -> None:
        names = tuple(owner.name for owner in owners)
        for name in names:
            most = self.limits[name].concurrent_requests
            assert most is None or self.num_running(name) < most
        self.running.append(Running(grant, store, names, [(self.now_s, tokens)]))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), tokens=st.integers(1, 30))
    def extend(self, data: st.DataObject, tokens: int) -> None:
        request = data.draw(st.sampled_from(self.running))
        try:
            self.run(request.store.extend(request.grant, tokens))
        except RequestError:
            return
        request.parts.append((self.now_s, tokens))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.running))
        self.run(request.store.start(request.grant))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), share=st.floats(0, 1), times=st.integers(1, 3))
    def end(self, data: st.DataObject, share: float, times: int) -> None:
        """Finished, failed or left: they differ in what was used. Settled once or several times."""
        place = data.draw(st.integers(0, len(self.running) - 1))
        request = self.running.pop(place)
        was_started = request.grant.has_started
        used = int(share * request.reserved) if was_started else 0
        for _ in range(times):
            self.run(request.store.settle(request.grant, used))
        self.log.append(request.used(used, was_started, self.today))

    @rule(seconds=st.one_of(st.floats(0, 5), st.floats(0, 130), st.just(float(DAY_S))))
    def wait(self, seconds: float) -> None:
        self.advance(seconds)

    @rule(
        name=st.sampled_from(NAMES),
        limit=st.sampled_from(LIMIT_NAMES[:4]),
        value=st.one_of(st.none(), st.integers(1, MOST)),
    )
    def change_limit(self, name: str, limit: str, value: int | None) -> None:
        self.limits[name] = replace(self.limits[name], **{limit: value})
        if value is None:  # from here on this one promises nothing
            self.highest[name] = replace(self.highest[name], **{limit: None})

    @property
    def today(self) -> int:
        return int(self.now_s // DAY_S)

    def held(self) -> list[Running]:
        """All that the store counts as running."""
        return self.running

    def num_running(self, name: str) -> int:
        return sum(name in request.owners for request in self.held())

    @invariant()
    def counters_are_what_runs_and_nothing_else(self) -> None:
        for name, account in self.counters().items():
            mine = [request for request in self.held() if name in request.owners]
            reserved = sum(request.reserved for request in mine)
            waiting = sum(not request.grant.has_started for request in mine)
            assert account.num_running == len(mine)
            assert account.num_waiting == waiting
            assert account.reserved_tokens == reserved
            assert account.day_tokens >= 0
            for bucket in (account.tokens, account.requests):
                if bucket is not None:
                    assert 0 <= bucket[0] <= bucket[1]

    @invariant()
    def nobody_is_above_a_limit_in_any_stretch_of_time(self) -> None:
        for name in NAMES:
            used = self.used_by(name)
            self.check_rate(used, self.highest[name].tokens_per_minute, is_requests=False)
            self.check_rate(used, self.highest[name].requests_per_minute, is_requests=True)
            most = self.highest[name].tokens_per_day
            for day in {each.day for each in used} if most else ():
                tokens = sum(part[1] for each in used if each.day == day for part in each.parts)
                assert tokens <= (most or 0)

    def used_by(self, name: str) -> list[Used]:
        """What `name` has used, and may still use by what it holds."""
        held = [Used(each.owners, each.parts, True, self.today) for each in self.held()]
        return [each for each in held if name in each.owners] + [
            each for each in self.log if name in each.owners
        ]

    def check_rate(self, used: list[Used], capacity: int | None, *, is_requests: bool) -> None:
        if capacity is None:
            return
        if is_requests:
            amounts = sorted((each.parts[0][0], int(each.was_started)) for each in used)
        else:
            amounts = sorted(part for each in used for part in each.parts)
        for first, (start_s, _) in enumerate(amounts):
            total = 0
            for at_s, amount in amounts[first:]:
                total += amount
                assert total <= capacity * (1 + (at_s - start_s) / 60) + 1e-6

    def teardown(self) -> None:
        for request in self.running:
            self.run(request.store.settle(request.grant, 0))
        self.running.clear()
        self.counters_are_what_runs_and_nothing_else()
        self.advance(61)
        for name, account in self.counters().items():
            assert (account.num_running, account.reserved_tokens) == (0, 0), name
            for bucket in (account.tokens, account.requests):
                assert bucket is None or bucket[0] == bucket[1]
