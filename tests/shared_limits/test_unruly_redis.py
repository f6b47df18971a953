"""What no real Redis does when it is asked to: each answer an error, silence after a greeting."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from app.service import Service
from app.shared_limits import redis_quota
from app.shared_limits.address import parse_address
from app.shared_limits.courier import PROBE_INTERVAL_S, Courier, RedisAway
from app.shared_limits.leases import Leases
from app.shared_limits.ledger import Ledger, keys_of
from app.shared_limits.redis_quota import RedisQuota
from tests.shared_limits.replicas import Heard
from tests.unit.virtual_time import run_virtually

TIMEOUT_S, LEASE_S = 0.5, 30.0


class ErringLedger:
    """Answers each step with an error, after which a look finds that Redis is there."""

    lease_s = LEASE_S

    def __init__(self) -> None:
        self.courier = SimpleNamespace(came_back=asyncio.Event())
        self.num_asked = 0

    async def ask(self, *_: Any) -> None:
        self.num_asked += 1
        assert self.num_asked < 100, "it asks without end"
        self.courier.came_back.set()
        raise RedisAway("OOM")


def test_a_step_that_is_an_error_each_time_is_not_sent_without_a_pause() -> None:
    async def use() -> int:
        ledger = ErringLedger()
        ledger.courier.came_back.set()
        renewing = asyncio.create_task(Leases(cast("Ledger", ledger)).renew_for_ever())
        await asyncio.wait({renewing}, timeout=10 * PROBE_INTERVAL_S)
        assert not renewing.done()
        renewing.cancel()
        return ledger.num_asked

    assert 2 <= run_virtually(use()) <= 11


async def hang(_: Any) -> list[str]:
    await asyncio.Event().wait()
    return []


async def hang_up(_: Any) -> list[str]:
    raise RedisConnectionError("closed")


@pytest.mark.parametrize("answer", [hang, hang_up])
def test_a_start_does_not_depend_on_what_a_redis_tells_of_itself(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[[Any], Awaitable[list[str]]]
) -> None:
    async def connect(*_: Any) -> None: ...

    monkeypatch.setattr(redis_quota, "connect_patiently", connect)
    monkeypatch.setattr(redis_quota, "read_dangers", answer)

    async def use() -> None:
        address, heard = parse_address("redis://127.0.0.1"), Heard()
        courier = Courier(address, TIMEOUT_S, (keys_of("p"), ("renew", LEASE_S)), heard)
        store = RedisQuota(Ledger(courier, "p", LEASE_S, heard), None)
        async with asyncio.timeout(10 * TIMEOUT_S):
            await store.open(patience_s=0)

    run_virtually(use())


def test_a_service_that_stops_gives_back_what_has_ended() -> None:
    """After its last request, and before it lets go of the engine."""
    order: list[str] = []

    async def close() -> None:
        order.append("shared limits")

    async def listen() -> None:
        await asyncio.sleep(1)
        order.append("requests")

    engine = SimpleNamespace(stop=lambda _: order.append("engine"), is_dead=False)
    stopping: Any = SimpleNamespace(
        listeners=[],
        settings=SimpleNamespace(tracing=SimpleNamespace(otlp_endpoint=None)),
        shared_quota=SimpleNamespace(close=close),
        resources=SimpleNamespace(engine=engine),
        is_dead=lambda: False,
    )

    async def stop() -> None:
        await Service.stop(stopping, [asyncio.create_task(listen())])

    asyncio.run(stop())
    assert order == ["requests", "shared limits", "engine"]
