"""The script where the memory has no counterpart: lapsed leases, a clock of Redis' own."""

import asyncio

import pytest

from app.core.key_limits import Limits, Owner
from app.core.quota import QuotaExceeded
from app.shared_limits.leases import Lease
from tests.shared_limits.redis_server import RedisServer
from tests.shared_limits.replicas import LEASE_S, shared_ledger

START_S = 86_400.0 * 20_000


def test_what_runs_on_after_its_lease_lapsed_is_counted_once(redis_server: RedisServer) -> None:
    """Its replica was cut off while another could reach Redis."""
    who = (Owner("tenant:t", "The tenant t", Limits(tokens_per_day=200)),)

    async def use() -> None:
        shared.set_time(START_S)
        async with shared.running() as store:
            grant = await store.reserve(who, 100)
            await store.start(grant)
            assert isinstance(grant, Lease)
            del store.leases.running[grant.id]
            for seconds in (LEASE_S / 2, LEASE_S, LEASE_S * 3 / 2):
                shared.set_time(START_S + seconds)
                await store.leases.renew()
            assert shared.num_leases() == 0
            store.leases.running[grant.id] = grant
            await store.leases.renew()  # finds it lapsed, and posts a step that nobody waits for
            await store.leases.renew()  # comes behind that step
            assert shared.counters(START_S)["tenant:t"].num_running == 1
            await store.settle(grant, 80)
            await store.leases.pay()
            assert shared.counters(START_S)["tenant:t"].day_tokens == 100

    with shared_ledger(redis_server) as shared:
        asyncio.run(use())


def test_a_redis_whose_clock_is_set_back_goes_on_refilling(redis_server: RedisServer) -> None:
    who = (Owner("tenant:t", "The tenant t", Limits(tokens_per_minute=60)),)

    async def use() -> None:
        shared.set_time(START_S + 3600)
        async with shared.running() as store:
            grant = await store.reserve(who, 60)
            await store.start(grant)
            await store.settle(grant, 60)
            await store.leases.pay()
            shared.set_time(START_S)
            with pytest.raises(QuotaExceeded):
                await store.reserve(who, 30)
            shared.set_time(START_S + 30)
            await store.reserve(who, 30)

    with shared_ledger(redis_server) as shared:
        asyncio.run(use())
