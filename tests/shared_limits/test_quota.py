"""What tests/unit/core/test_quota.py says of the store in memory holds for the one in Redis."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from typing import Any

import pytest

from app.core.key_limits import Owner
from app.core.quota import Grant, Standing
from tests.shared_limits.redis_server import RedisServer
from tests.shared_limits.replicas import Shared, shared_ledger
from tests.unit.core.test_quota import *  # noqa: F403 (its tests run here, with the fixtures below)
from tests.unit.core.test_quota import Clock


class RedisBook:
    """The store at work on a loop of its own, by the test's clock; each call is done on return."""

    def __init__(self, shared: Shared, clock: Clock) -> None:
        self.shared, self.clock = shared, clock
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        shared.set_time(clock())
        self.store = self.do(self._make())
        self.working = asyncio.run_coroutine_threadsafe(self.store.keep_up(), self.loop)

    async def _make(self) -> Any:
        return self.shared.replica()

    def do(self, step: Coroutine[Any, Any, Any]) -> Any:
        self.shared.set_time(self.clock())
        return asyncio.run_coroutine_threadsafe(step, self.loop).result(30)

    async def reserve(self, owners: tuple[Owner, ...], tokens: int) -> Grant:
        grant: Grant = self.do(self.store.reserve(owners, tokens))
        return grant

    async def extend(self, grant: Grant, tokens: int) -> None:
        self.do(self.store.extend(grant, tokens))

    async def start(self, grant: Grant) -> None:
        self.do(self.store.start(grant))

    async def settle(self, grant: Grant, used: int) -> None:
        self.do(self.store.settle(grant, used))
        self.do(self.store.leases.pay())

    def standings(self, owners: Sequence[Owner]) -> Mapping[str, Standing]:
        """As of now, where the store itself shows its last answer."""
        self.do(self.store.ledger.ask("renew", owners))
        found: Mapping[str, Standing] = self.store.standings(owners)
        return found

    def close(self) -> None:
        self.working.cancel()
        self.do(asyncio.sleep(0.05))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture  # type: ignore[no-redef]  # in place of the one imported
def book(redis_server: RedisServer, clock: Clock) -> Iterator[RedisBook]:
    with shared_ledger(redis_server) as shared:
        book = RedisBook(shared, clock)
        try:
            yield book
        finally:
            book.close()
