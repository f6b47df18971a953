"""Stores of several replicas on one Redis whose clock the test sets; a look at what is kept."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from itertools import count
from typing import Any

from app.core.key_limits import Bucket
from app.core.quota import QuotaBook
from app.shared_limits.address import parse_address
from app.shared_limits.courier import SCRIPT, Courier
from app.shared_limits.ledger import Ledger, keys_of
from app.shared_limits.redis_quota import RedisQuota
from tests.shared_limits.redis_server import RedisServer
from tests.unit.core.quota_machine import Counters

LEASE_S = 30.0
_numbers = count()
_READ_ALL = """
local found = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. ':owner:*')) do
  found[key:sub(#ARGV[1] + 8)] = cmsgpack.unpack(redis.call('GET', key))
end
return cjson.encode(found)
"""
_COUNT_GRANTS = """
local number = 0
for _, packed in ipairs(redis.call('HVALS', KEYS[1])) do
  number = number + (cmsgpack.unpack(packed).is_void and 0 or 1)
end
return number
"""


class Heard:
    """An observer; counts what it hears."""

    def __init__(self) -> None:
        self.answered: list[str] = []
        self.failed: list[str] = []
        self.ups: list[bool] = []
        self.num_lapsed = 0

    def redis_up(self, is_up: bool) -> None:
        self.ups.append(is_up)

    def redis_answered(self, operation: str, seconds: float) -> None:
        self.answered.append(operation)

    def redis_failed(self, operation: str) -> None:
        self.failed.append(operation)

    def leases_lapsed(self, number: int) -> None:
        self.num_lapsed += number


class Shared:
    """A ledger of its own in a Redis. With `now_s` set, the ledger's time is what the test says."""

    def __init__(self, server: RedisServer) -> None:
        self.server, self.client = server, server.client()
        self.prefix = f"test-{next(_numbers)}"
        self.script = SCRIPT
        self.heard = Heard()

    def set_time(self, now_s: float) -> None:
        """The one line of the script that asks for the time asks for this one instead."""
        key = f"now:{self.prefix}"
        line = "redis.call('TIME')"
        assert SCRIPT.count(line) == 1
        self.script = SCRIPT.replace(line, f"redis.call('LRANGE', '{key}', 0, 1)")
        seconds, micros = divmod(round(now_s * 1_000_000), 1_000_000)
        pipe = self.client.pipeline(transaction=True)
        pipe.delete(key)
        pipe.rpush(key, seconds, micros)
        pipe.execute()

    def replica(
        self,
        *,
        url: str = "",
        timeout_s: float = 20,  # a busy machine is no fault of Redis
        lease_s: float = LEASE_S,
        fallback: QuotaBook | None = None,
    ) -> RedisQuota:
        probe = (keys_of(self.prefix), ("renew", lease_s))
        address = parse_address(url or self.server.url)
        courier = Courier(address, timeout_s, probe, self.heard, self.script)
        return RedisQuota(Ledger(courier, self.prefix, lease_s, self.heard), fallback)

    @contextlib.asynccontextmanager
    async def running(self, **options: Any) -> AsyncIterator[RedisQuota]:
        """A replica at work."""
        store = self.replica(**options)
        working = asyncio.create_task(store.keep_up())
        try:
            yield store
        finally:
            await store.close()
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    def counters(self, now_s: float) -> Mapping[str, Counters]:
        found = json.loads(self.client.eval(_READ_ALL, 0, f"{{{self.prefix}}}"))  # type: ignore[arg-type,no-untyped-call,unused-ignore]
        return {name: counters_of(account, now_s) for name, account in dict(found).items()}

    def num_leases(self) -> int:
        """Those that hold something."""
        leases, grants, _ = keys_of(self.prefix)
        assert self.client.zcard(leases) == self.client.hlen(grants)
        number: int = self.client.eval(_COUNT_GRANTS, 1, grants)  # type: ignore[assignment,no-untyped-call,unused-ignore]
        return number

    def forget(self) -> None:
        for key in self.client.scan_iter(f"{{{self.prefix}}}:*", count=1000):
            self.client.delete(key)
        self.client.close()


def counters_of(account: Mapping[str, Any], now_s: float) -> Counters:
    return Counters(
        account["running"],
        account["waiting"],
        account["reserved"],
        account["day_tokens"],
        as_of(account.get("requests"), account["waiting"], now_s),
        as_of(account.get("tokens"), account["reserved"], now_s),
    )


def as_of(kept: Mapping[str, Any] | None, held: int, now_s: float) -> tuple[float, int] | None:
    """A bucket is kept as it was when it was touched last."""
    if kept is None:
        return None
    bucket = Bucket(kept["capacity"], held, kept["at"])
    bucket.level = kept["level"]
    bucket.refill(now_s)
    return (bucket.level, bucket.capacity)


@contextlib.contextmanager
def shared_ledger(server: RedisServer) -> Iterator[Shared]:
    shared = Shared(server)
    try:
        yield shared
    finally:
        shared.forget()
