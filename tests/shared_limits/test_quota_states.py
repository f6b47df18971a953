"""Thousands of interleavings of all that can happen to a reservation, in a real Redis.

Two replicas share it. One may be killed, and a call may be given up while it is on its way.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from app.core.errors import InvalidRequest
from app.shared_limits.redis_quota import RedisQuota
from tests.shared_limits.redis_server import RedisServer
from tests.shared_limits.replicas import LEASE_S, Shared
from tests.unit.core.quota_machine import MOST, NAMES, Counters, QuotaMachine, Running

Exchange = Callable[[Any], Awaitable[Any]]


@contextlib.contextmanager
def replaced_exchange(
    store: RedisQuota, wrapper: Callable[[Exchange, Any], Awaitable[Any]]
) -> Iterator[None]:
    """Meanwhile `wrapper` stands between the store and its connection."""
    courier = store.ledger.courier
    exchange = courier._exchange
    courier._exchange = partial(wrapper, exchange)  # type: ignore[assignment]
    try:
        yield
    finally:
        courier._exchange = exchange  # type: ignore[method-assign]


@dataclass
class Orphan:
    """A request of a killed replica; `left_s`: what is left of its lease."""

    request: Running
    left_s: float


class RedisMachine(QuotaMachine):
    server: ClassVar[RedisServer]

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.shared = Shared(self.server)
        self.shared.set_time(self.now_s)
        self.orphans: list[Orphan] = []
        self.working: dict[int, asyncio.Task[None]] = {}
        self.replicas = [self.new_replica(), self.new_replica()]
        self.turn = 0

    def new_replica(self) -> RedisQuota:
        store = self.shared.replica()
        self.working[id(store)] = self.loop.create_task(store.ledger.courier.run())
        return store

    @property
    def store(self) -> RedisQuota:
        self.turn = (self.turn + 1) % 2
        return self.replicas[self.turn]

    def run(self, step: Coroutine[Any, Any, Any]) -> Any:
        try:
            return self.loop.run_until_complete(step)
        finally:
            self.loop.run_until_complete(self.settled())

    async def settled(self) -> None:
        """What is sent off without waiting is done."""
        for store in self.replicas:
            await store.leases.pay()

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        self.shared.set_time(self.now_s)
        passed_s = min(seconds, LEASE_S * 2 / 3)
        for store in self.replicas:
            self.run(store.leases.renew())
        for orphan in self.orphans:
            orphan.left_s -= passed_s
        for orphan in [each for each in self.orphans if each.left_s <= 1e-9]:
            self.orphans.remove(orphan)
            was_started = orphan.request.grant.has_started
            used = orphan.request.reserved if was_started else 0
            self.log.append(orphan.request.used(used, was_started, self.today))

    @rule(which=st.integers(0, 1))
    def kill(self, which: int) -> None:
        """A replica is gone without a word, and another takes its place."""
        store = self.replicas[which]
        self.working[id(store)].cancel()
        mine = [each for each in self.running if each.store is store]
        self.running = [each for each in self.running if each.store is not store]
        self.orphans += [Orphan(each, LEASE_S) for each in mine]
        self.replicas[which] = self.new_replica()

    @rule(
        key=st.sampled_from(NAMES[:2]),
        tokens=st.integers(1, MOST),
        moment=st.sampled_from(["waiting", "sent", "done"]),
    )
    def leave_while_it_is_asked(self, key: str, tokens: int, moment: str) -> None:
        """The client leaves before the call is sent, on its way, or when Redis has done it."""
        store = self.store
        asking = self.loop.create_task(store.reserve(self.owners(key), tokens))

        async def leave() -> None:
            await asyncio.sleep(0)
            if moment == "waiting":
                asking.cancel()
            await asyncio.wait({asking})

        async def give_up(exchange: Exchange, steps: Any) -> Any:
            replies = await exchange(steps) if moment == "done" else None
            asking.cancel()
            await asyncio.sleep(0)
            return replies or await exchange(steps)

        with replaced_exchange(store, give_up):
            self.run(leave())
        assert asking.cancelled() or isinstance(asking.exception(), InvalidRequest)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def lose_the_answer(self, data: st.DataObject) -> None:
        """A step is done and its answer lost: it is sent again, over another connection."""
        request = data.draw(st.sampled_from(self.running))
        assert isinstance(request.store, RedisQuota)
        num_lost = 0

        async def lose(exchange: Exchange, steps: Any) -> Any:
            nonlocal num_lost
            replies = await exchange(steps)
            num_lost += 1
            if num_lost == 1:
                raise ConnectionResetError
            return replies

        with replaced_exchange(request.store, lose):
            self.run(request.store.start(request.grant))

    def held(self) -> list[Running]:
        return self.running + [each.request for each in self.orphans]

    def counters(self) -> Mapping[str, Counters]:
        assert self.shared.num_leases() == len(self.held())
        return self.shared.counters(self.now_s)

    def teardown(self) -> None:
        try:
            for _ in range(3):
                self.advance(LEASE_S * 2 / 3)
            assert not self.orphans
            super().teardown()
        finally:
            for task in self.working.values():
                task.cancel()
            ending = asyncio.gather(*self.working.values(), return_exceptions=True)
            self.loop.run_until_complete(ending)
            self.loop.close()
            self.shared.forget()


def test_nothing_leaks_and_nobody_exceeds_a_limit(redis_server: RedisServer) -> None:
    machine: type[RuleBasedStateMachine] = type(
        "Machine", (RedisMachine,), {"server": redis_server}
    )
    run_state_machine_as_test(
        machine, settings=settings(max_examples=80, stateful_step_count=40, deadline=None)
    )
