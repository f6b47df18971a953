"""Two gateways never exceed a tenant's limits together, whatever dies; Redis has its file on."""

import asyncio
import signal
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.faults.fault_table import FaultTable
from tests.faults.two_replicas import Asked, Crowd, ask, two_replicas
from tests.integration.gateway_process import GatewayProcess
from tests.shared_limits.redis_server import RedisServer, running_redis

GIVE_UP_S = 300


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def replicas(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[GatewayProcess]]:
    with two_replicas(tmp_path_factory.mktemp("replicas"), redis_server.url) as running:
        yield running


async def wait_for(condition: object, give_up_s: float) -> None:
    assert callable(condition)
    while not condition():
        assert time.monotonic() < give_up_s, "it does not come to that"
        await asyncio.sleep(0.05)


async def press_through_a_restart(
    urls: list[str], redis_server: RedisServer
) -> tuple[Crowd, float, float]:
    """Returns the crowd, when Redis was back, and how long until the next answer."""
    crowd, is_enough, give_up_s = (
        Crowd(urls, "greedy"),
        asyncio.Event(),
        time.monotonic() + GIVE_UP_S,
    )
    pressing = asyncio.create_task(crowd.press(is_enough))
    await wait_for(lambda: len(crowd.answered()) >= 12, give_up_s)
    redis_server.stop(signal.SIGKILL)
    await wait_for(lambda: crowd.refused("limits_unavailable") >= 12, give_up_s)
    redis_server.start()
    back_s = time.monotonic()
    await wait_for(lambda: crowd.answered(back_s), give_up_s)
    over_s = time.monotonic() - back_s
    used_up = lambda: crowd.refused("tokens_per_", back_s) >= 20  # noqa: E731
    await wait_for(used_up, give_up_s)
    is_enough.set()
    await pressing
    return crowd, back_s, over_s


def test_a_restart_of_redis_lets_nobody_exceed_a_limit(
    replicas: list[GatewayProcess], redis_server: RedisServer, table: FaultTable
) -> None:
    urls = [replica.url for replica in replicas]
    crowd, _, over_s = asyncio.run(press_through_a_restart(urls, redis_server))
    assert {each.status for each in crowd.asked} == {200, 429, 503}
    assert crowd.refused("concurrent_requests")
    crowd.check_limits()
    with replicas[0].client("sk-greedy") as client:
        limits = client.get("/admin/status").json()["limits"]
        metrics = client.get("/metrics").text
    assert (limits["store"], limits["reachable"]) == ("redis", True)
    assert 'gateway_redis_duration_seconds_count{operation="reserve"}' in metrics
    assert "gateway_redis_away 0.0" in metrics
    said = {line["message"] for line in replicas[0].log()}
    assert {"Redis is away", "Redis answers again"} <= said
    table.add(
        "`kill -9` of the Redis of shared limits, under `fail_closed`; then a restart",
        clients="running ones are answered; new ones get 503 with `Retry-After`",
        service="two replicas together never exceed a limit, before, meanwhile or after",
        over_s=over_s,
    )


async def kill_the_one_that_holds_all(
    one: GatewayProcess, two: GatewayProcess, crowd: Crowd
) -> tuple[list[int], float]:
    """The other's answers from then until it answers well, and how long that took. The crowd
    presses both, then the other, until its tokens are used up."""
    give_up_s, is_enough = time.monotonic() + GIVE_UP_S, asyncio.Event()
    pressing = asyncio.create_task(crowd.press(is_enough))
    async with httpx.AsyncClient(timeout=60) as client:
        held = [Asked(), Asked()]
        asking = (ask(client, one.url, "held", 3000, asked=each) for each in held)
        streams = [asyncio.create_task(each) for each in asking]
        is_busy = lambda: all(each.first_s for each in held) and len(crowd.answered()) >= 8  # noqa: E731
        await wait_for(is_busy, give_up_s)
        assert (await ask(client, two.url, "held", 1)).status == 429
        one.process.send_signal(signal.SIGKILL)
        killed_s, statuses = time.monotonic(), list[int]()
        crowd.urls = [two.url]
        while 200 not in statuses:
            assert time.monotonic() < give_up_s
            statuses.append((await ask(client, two.url, "held", 1)).status)
            await asyncio.sleep(0.1)
        over_s = time.monotonic() - killed_s
        gone = await asyncio.gather(*streams, return_exceptions=True)
        assert all(isinstance(each, httpx.TransportError) for each in gone)
    await wait_for(lambda: crowd.refused("tokens_per_", killed_s) >= 20, give_up_s)
    is_enough.set()
    await pressing
    return statuses, over_s


def test_a_killed_replica_gives_its_share_back_and_nobody_exceeds_a_limit(
    replicas: list[GatewayProcess], table: FaultTable
) -> None:
    """Last in this file: one replica is gone after it."""
    one, two = replicas
    crowd = Crowd([one.url, two.url], "eager")
    statuses, over_s = asyncio.run(kill_the_one_that_holds_all(one, two, crowd))
    assert 429 in statuses
    assert set(statuses[:-1]) <= {429, 503}
    assert {each.status for each in crowd.asked} <= {0, 200, 429, 503}
    crowd.check_limits()
    assert two.stop() == 0
    table.add(
        "`kill -9` of a replica that holds all of a tenant's concurrent requests (lease of 6 s)",
        clients="of the dead one are cut off; of the other get 429 until the lease is over",
        lost="what the dead one had begun counts as used",
        service="the other replica has the whole share again; together they never exceed a limit",
        over_s=over_s,
    )
