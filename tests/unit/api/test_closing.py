"""What a request holds comes back, however its end is disturbed."""

import asyncio
from contextlib import suppress
from typing import Any

from app.api.context import SCOPE_KEY, RequestContext
from app.api.tenancy import Tenancy
from app.core.admission import Admission
from app.core.fair_queue import FairQueue, QueueBounds
from app.core.keys import KeyRing, digest_of, make_key
from app.core.quota import Grant, QuotaBook
from tests.unit.silent_observer import SilentObserver

KEY = make_key("k", digest_of("sk-unit"), ["infer"], tenant="t")


class FarBook(QuotaBook):
    """Counts at once, and says so later."""

    async def reserve(self, *arguments: Any) -> Grant:
        grant = await super().reserve(*arguments)
        await asyncio.sleep(0.05)
        return grant


def test_a_cancel_while_a_reservation_is_still_being_made_keeps_nothing_back() -> None:
    async def run() -> int:
        queue, book = FairQueue(QueueBounds(10, 1.0, 1.0), SilentObserver()), FarBook()
        queue.open(4, 0)
        context = RequestContext(key=KEY)
        entering = []

        async def engine(scope: Any, receive: Any, send: Any) -> None:
            assert context.meter.ticket is not None
            entering.append(asyncio.create_task(context.meter.ticket.enter(5, 5, 1)))
            await asyncio.sleep(0.01)  # and is left alone with it

        tenancy = Tenancy(engine, KeyRing([KEY]), Admission(book, queue, 10, SilentObserver()))
        scope = {"type": "http", "headers": [], SCOPE_KEY: context}
        task = asyncio.ensure_future(tenancy(scope, None, None))  # type: ignore[arg-type]
        await asyncio.sleep(0.03)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await asyncio.gather(*entering, return_exceptions=True)
        await asyncio.sleep(0.01)
        return sum(account.reserved_tokens for account in book.accounts.values())

    assert asyncio.run(run()) == 0
