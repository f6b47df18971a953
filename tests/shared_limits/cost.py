"""What shared limits cost per request: CPU of the gateway and of Redis, round trips, memory.

python -m tests.shared_limits.cost
"""

import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.core.key_limits import Limits, Owner
from app.shared_limits.redis_quota import RedisQuota
from tests.shared_limits.redis_server import running_redis
from tests.shared_limits.replicas import Shared

NUM_REQUESTS = 6400
LIMITS = Limits(1 << 30, 1 << 30, 1 << 20, 1 << 40)
OWNERS = (Owner("key:shop-web", "key", LIMITS), Owner("tenant:shop", "tenant", LIMITS))


async def request(store: RedisQuota, waits_s: list[float]) -> None:
    begun = time.perf_counter()
    grant = await store.reserve(OWNERS, 500)
    await store.start(grant)
    waits_s.append(time.perf_counter() - begun)
    await store.settle(grant, 300)


async def ask_again_and_again(store: RedisQuota, number: int, waits_s: list[float]) -> None:
    for _ in range(number):
        await request(store, waits_s)


def info(shared: Shared, section: str) -> dict[str, Any]:
    found: Any = shared.client.info(section)
    return dict(found)


async def measure(shared: Shared, at_once: int) -> None:
    async with shared.running() as store:
        await ask_again_and_again(store, 100, [])
        shared.client.config_resetstat()
        waits_s: list[float] = []
        cpu_s, before = time.process_time(), info(shared, "cpu")
        share = NUM_REQUESTS // at_once
        await asyncio.gather(*(ask_again_and_again(store, share, waits_s) for _ in range(at_once)))
        await store.leases.pay()
        cpu_s, after = time.process_time() - cpu_s, info(shared, "cpu")
        script = info(shared, "commandstats")["cmdstat_evalsha"]
        reads = info(shared, "stats")["total_reads_processed"]
        redis_s = sum(after[name] - before[name] for name in ("used_cpu_user", "used_cpu_sys"))
        waits_s.sort()
        print(
            f"{at_once:4} at once: gateway {cpu_s / NUM_REQUESTS * 1e6:.0f} us of CPU per request, "
            f"Redis {redis_s / NUM_REQUESTS * 1e6:.0f} us "
            f"({script['usec_per_call']:.0f} us per step, {script['calls'] / NUM_REQUESTS:.1f} "
            f"steps, {reads / NUM_REQUESTS:.2f} round trips); before the first token "
            f"{waits_s[len(waits_s) // 2] * 1e3:.2f} ms (median)"
        )


async def reserve_for(many: Sequence[tuple[Owner, ...]], store: RedisQuota) -> None:
    for first in range(0, len(many), 500):
        await asyncio.gather(*(store.reserve(each, 1) for each in many[first : first + 500]))


async def weigh(shared: Shared, number: int) -> None:
    before = info(shared, "memory")["used_memory"]
    async with shared.running() as store:
        await reserve_for([OWNERS] * number, store)
        running = info(shared, "memory")["used_memory"]
        await reserve_for([(Owner(f"key:{n}", "key", LIMITS),) for n in range(number)], store)
        both = info(shared, "memory")["used_memory"]
    per_request = (running - before) / number
    per_owner = (both - running) / number - per_request
    print(f"memory: {per_request:.0f} bytes per running request, {per_owner:.0f} per key or tenant")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, running_redis(Path(folder)) as server:
        shared = Shared(server)
        for at_once in (1, 8, 64):
            asyncio.run(measure(shared, at_once))
        asyncio.run(weigh(shared, 20_000))


if __name__ == "__main__":
    main()
