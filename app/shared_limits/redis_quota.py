"""Who has used how much, for all replicas that share a Redis. Promises as app.core.quota.QuotaBook.

What a request holds is a lease, kept alive while the request runs (app/shared_limits/leases.py).
"""

import asyncio
import logging
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import count
from math import ceil
from typing import Any, Protocol

from redis.exceptions import RedisError

from app.core.errors import StartError, Unavailable
from app.core.key_limits import Owner
from app.core.quota import (
    Grant,
    QuotaBook,
    QuotaExceeded,
    Standing,
    least_left,
    refuse_what_never_fits,
)
from app.shared_limits.address import RedisAddress
from app.shared_limits.courier import Courier, CourierObserver, RedisAway, reason_of
from app.shared_limits.leases import Lease, Leases
from app.shared_limits.ledger import Answer, Ledger, LedgerObserver, keys_of, limits_of
from app.shared_limits.readiness import connect_patiently, read_dangers

logger = logging.getLogger("gateway.limits")

_LONGEST_RETRY_AFTER_S = 30


class SharedObserver(CourierObserver, LedgerObserver, Protocol):
    """What the metrics hear."""


def make_redis_quota(
    address: RedisAddress,
    observer: SharedObserver,
    *,
    prefix: str,
    timeout_s: float,
    lease_s: float,
    fallback: QuotaBook | None,
) -> "RedisQuota":
    probe = (keys_of(prefix), ("renew", lease_s))
    courier = Courier(address, timeout_s, probe, observer)
    return RedisQuota(Ledger(courier, prefix, lease_s, observer), fallback)


class RedisQuota:
    """`fallback` decides while Redis cannot; without one, such requests are refused."""

    def __init__(self, ledger: Ledger, fallback: QuotaBook | None) -> None:
        self.ledger, self.fallback = ledger, fallback
        self.leases = Leases(ledger)
        self._replica, self._numbers = uuid.uuid4().hex[:12], count()

    async def open(self, patience_s: float) -> None:
        """Wait until Redis answers, and warn of what it would forget. Raises StartError where it
        does not answer and nothing may be served without it."""
        courier = self.ledger.courier
        try:
            connection = await connect_patiently(courier, patience_s)
        except (RedisError, OSError, TimeoutError) as error:
            if self.fallback is None:
                raise StartError(
                    f"limits.redis_url: the Redis at {courier.address.shown} cannot be used "
                    f"({reason_of(error)}); limits.when_redis_fails is fail_closed, so nothing "
                    "could be served."
                ) from None
            return
        try:
            async with asyncio.timeout(courier.timeout_s):
                dangers = await read_dangers(connection)
        except (RedisError, OSError, TimeoutError):  # it answered before, and may again
            await courier.disconnect()
            return
        for sentence in dangers:
            logger.warning(sentence, extra={"redis": courier.address.shown})

    async def keep_up(self) -> None:
        """Carry the steps and renew the leases, for as long as the service runs."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.ledger.courier.run())
            group.create_task(self.leases.renew_for_ever())

    async def close(self) -> None:
        """Give back what has ended; to be called before `keep_up` is cancelled."""
        with suppress(RedisAway):
            await self.leases.pay()

    async def reserve(self, owners: tuple[Owner, ...], tokens: int) -> Grant:
        refuse_what_never_fits(owners, tokens)
        lease = Lease(owners, tokens, id=f"{self._replica}-{next(self._numbers)}")
        step = self.ledger.post("reserve", owners, lease.id, tokens, *limits_of(owners))
        try:
            answer = await self.ledger.wait(step)
        except (RedisAway, asyncio.CancelledError) as error:
            if step.was_sent:  # it may be done, or yet be done
                self.leases.owe("undo", lease, 0)
            if not isinstance(error, RedisAway):
                raise
            return await self._reserve_without(owners, tokens, error)
        self._raise_refusal(answer, owners)
        self.leases.running[lease.id] = lease
        return lease

    async def _reserve_without(
        self, owners: tuple[Owner, ...], tokens: int, error: RedisAway
    ) -> Grant:
        book = self.fallback
        if book is None:
            raise self._refusal() from error
        try:
            return await book.reserve(owners, tokens)
        finally:
            for owner in owners:
                self.ledger.standings[owner.name] = book.standings([owner])

    async def extend(self, grant: Grant, tokens: int) -> None:
        if not isinstance(grant, Lease):
            return await self._fallback.extend(grant, tokens)
        owners, total = grant.owners, grant.tokens + tokens
        refuse_what_never_fits(owners, total)
        await self._change("extend", grant, total, *limits_of(owners))
        grant.tokens = total
        return None

    async def start(self, grant: Grant) -> None:
        if not isinstance(grant, Lease):
            return await self._fallback.start(grant)
        if not grant.has_started and not grant.is_settled:
            await self._change("start", grant, 0)
            grant.has_started = True
        return None

    async def settle(self, grant: Grant, used: int) -> None:
        """Sent off and not waited for: what this replica asks next comes after it."""
        if not isinstance(grant, Lease):
            return await self._fallback.settle(grant, used)
        if not grant.is_settled:
            grant.is_settled = True
            self.leases.running.pop(grant.id, None)
            self.leases.owe("settle", grant, used)
        return None

    def standings(self, owners: Sequence[Owner]) -> Mapping[str, Standing]:
        """As of the last reservation or start of each of them."""
        return least_left(self.ledger.standings.get(owner.name, {}) for owner in owners)

    def describe(self) -> dict[str, Any]:
        """For the status page."""
        courier = self.ledger.courier
        return {
            "store": "redis",
            "address": courier.address.shown,
            "reachable": courier.is_up,
            "when_redis_fails": "fail_open" if self.fallback else "fail_closed",
            "leases": len(self.leases.running),
            "owed": len(self.leases.owed),
        }

    async def _change(self, operation: str, lease: Lease, *arguments: str | int | float) -> None:
        step = self.ledger.post(operation, lease.owners, lease.id, *arguments)
        try:
            answer = await self.ledger.wait(step)
        except RedisAway as error:
            if self.fallback is None:
                raise self._refusal() from error
        else:
            self._raise_refusal(answer, lease.owners)

    def _raise_refusal(self, answer: Answer, owners: Sequence[Owner]) -> None:
        if answer.decision == "refused":
            place, limit, wait_s = answer.details
            raise QuotaExceeded(owners[int(place)], limit, float(wait_s))
        if answer.decision == "gone" and self.fallback is None:
            raise Unavailable(
                "The reservation of this request is lost; send it again.",
                code="reservation_lost",
                retry_after_s=1,
            )

    def _refusal(self) -> Unavailable:
        """What was away for long is likely to stay away for long."""
        away_s = ceil(self.ledger.courier.down_s)
        return Unavailable(
            "The limits cannot be checked now: their store does not answer.",
            code="limits_unavailable",
            retry_after_s=min(max(1, away_s), _LONGEST_RETRY_AFTER_S),
        )

    @property
    def _fallback(self) -> QuotaBook:
        if self.fallback is None:
            raise RuntimeError("a grant of another store")
        return self.fallback
