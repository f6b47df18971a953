"""Keeps the leases of running requests alive, and has done what Redis is owed.

Owed is what ended or was given up: it is sent at once, and again until Redis says that it is done.
What this process cannot send any more lapses with its lease.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from app.core.key_limits import Owner
from app.core.quota import Grant
from app.shared_limits.courier import PROBE_INTERVAL_S, RedisAway, ReplyFuture, Step
from app.shared_limits.ledger import Ledger

logger = logging.getLogger("gateway.limits")

RENEWALS_PER_LEASE = 6
_AT_ONCE = 500


@dataclass(slots=True, kw_only=True)
class Lease(Grant):
    """A grant whose time of opening Redis knows."""

    id: str


@dataclass(frozen=True, slots=True)
class Debt:
    operation: str
    owners: Sequence[Owner]
    used: int


class Leases:
    """`running` and `owed` by the lease's id."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.running: dict[str, Lease] = {}
        self.owed: dict[str, Debt] = {}

    def owe(self, operation: str, lease: Lease, used: int) -> None:
        """`settle` a lease, or `undo` a reservation that may have been made."""
        self.owed[lease.id] = Debt(operation, lease.owners, used)
        self._send(lease.id)

    def _send(self, name: str) -> Step:
        debt = self.owed[name]
        step = self.ledger.post(debt.operation, debt.owners, name, debt.used)
        step.reply.add_done_callback(partial(self._note_paid, name))
        return step

    def _note_paid(self, name: str, reply: ReplyFuture) -> None:
        if not reply.cancelled() and reply.exception() is None:
            self.owed.pop(name, None)

    async def pay(self) -> None:
        """Send all that is owed, and wait until it is done. Raises RedisAway."""
        names = list(self.owed)
        for first in range(0, len(names), _AT_ONCE):
            sent = [self._send(name) for name in names[first:][:_AT_ONCE] if name in self.owed]
            for step in sent:
                await self.ledger.wait(step)

    async def renew_for_ever(self) -> None:
        came_back = self.ledger.courier.came_back
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(came_back.wait(), self.ledger.lease_s / RENEWALS_PER_LEASE)
            came_back.clear()
            try:
                await self.renew()
                await self.pay()
            except RedisAway:  # an answer that is an error each time: it counts as back each time
                await asyncio.sleep(PROBE_INTERVAL_S)

    async def renew(self) -> None:
        """Also with nothing to renew: then it shows that Redis answers, and lapses what others
        have left."""
        names = list(self.running)
        for first in range(0, max(1, len(names)), _AT_ONCE):
            answer = await self.ledger.ask("renew", (), *names[first:][:_AT_ONCE])
            lapsed = [lease for name in answer.details if (lease := self.running.get(name))]
            if lapsed:
                self.ledger.observer.leases_lapsed(len(lapsed))
                logger.warning("leases of running requests lapsed", extra={"leases": len(lapsed)})
            for lease in lapsed:
                if lease.has_started:  # one that waits asks for its own when its turn comes
                    self.ledger.post("revive", lease.owners, lease.id, 0)
