"""What the script in Redis is asked, and what it answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Protocol

from app.core.key_limits import Owner
from app.core.quota import Standing
from app.shared_limits.courier import Argument, Courier, ReplyFuture, Step

_NAMES = ("requests", "tokens")


class LedgerObserver(Protocol):
    """What the metrics hear."""

    def redis_answered(self, operation: str, seconds: float) -> None: ...
    def redis_failed(self, operation: str) -> None: ...
    def leases_lapsed(self, number: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """`decision`: granted, refused, gone (the grant is not known any more) or done."""

    decision: str
    details: Sequence[str]


class Ledger:
    """`standings`: what the last answers said, by owner."""

    def __init__(
        self, courier: Courier, prefix: str, lease_s: float, observer: LedgerObserver
    ) -> None:
        self.courier, self.lease_s, self.observer = courier, lease_s, observer
        self.standings: dict[str, dict[str, Standing]] = {}
        self._prefix = prefix

    def post(self, operation: str, owners: Sequence[Owner], *arguments: Argument) -> Step:
        """Send it in its turn, whether its answer is waited for or not."""
        step = Step(keys_of(self._prefix, owners), (operation, self.lease_s, *arguments))
        step.reply.add_done_callback(partial(self._note, operation, owners, perf_counter()))
        self.courier.post(step)
        return step

    async def wait(self, step: Step) -> Answer:
        """Raises RedisAway."""
        decision, details, _ = await self.courier.wait(step)
        return Answer(decision, details)

    async def ask(self, operation: str, owners: Sequence[Owner], *arguments: Argument) -> Answer:
        return await self.wait(self.post(operation, owners, *arguments))

    def _note(
        self, operation: str, owners: Sequence[Owner], started: float, reply: ReplyFuture
    ) -> None:
        if reply.cancelled():
            return
        if reply.exception() is not None:
            self.observer.redis_failed(operation)
            return
        self.observer.redis_answered(operation, perf_counter() - started)
        rows = reply.result()[2]
        for place, owner in enumerate(owners):
            self.standings[owner.name] = {
                name: Standing(row[0], row[1], float(row[2]))
                for name, row in zip(_NAMES, rows[2 * place : 2 * place + 2], strict=True)
                if row
            }


def keys_of(prefix: str, owners: Sequence[Owner] = ()) -> list[str]:
    """Braces, so that a cluster keeps all of them in one slot."""
    shared = [f"{{{prefix}}}:{name}" for name in ("leases", "grants", "clock")]
    return shared + [f"{{{prefix}}}:owner:{owner.name}" for owner in owners]


def limits_of(owners: Sequence[Owner]) -> list[Argument]:
    """Four for each owner; empty where there is no limit."""
    found: list[Argument] = []
    for owner in owners:
        limits = owner.limits
        for limit in (
            limits.requests_per_minute,
            limits.tokens_per_minute,
            limits.concurrent_requests,
            limits.tokens_per_day,
        ):
            found.append("" if limit is None else limit)
    return found
