"""Thousands of interleavings of all that can happen to a reservation in this process's memory."""

from collections.abc import Coroutine, Mapping
from typing import Any

from hypothesis import settings

from app.core.key_limits import Bucket
from app.core.quota import QuotaBook
from tests.unit.core.quota_machine import Counters, QuotaMachine


class BookMachine(QuotaMachine):
    def __init__(self) -> None:
        super().__init__()
        self.book = QuotaBook(lambda: self.now_s)

    @property
    def store(self) -> QuotaBook:
        return self.book

    def run(self, step: Coroutine[Any, Any, Any]) -> Any:
        """The result of a step that never waits; a loop for each of thousands would be slow."""
        try:
            step.send(None)
        except StopIteration as result:
            return result.value
        raise AssertionError("it waits")

    def counters(self) -> Mapping[str, Counters]:
        found: dict[str, Counters] = {}
        for name, account in self.book.accounts.items():
            account.refresh(self.now_s)
            assert account.tokens is None or account.tokens.held == account.reserved_tokens
            assert account.requests is None or account.requests.held == account.num_waiting
            found[name] = Counters(
                account.num_running,
                account.num_waiting,
                account.reserved_tokens,
                account.day_tokens,
                shown(account.requests),
                shown(account.tokens),
            )
        return found


def shown(bucket: Bucket | None) -> tuple[float, int] | None:
    return (bucket.level, bucket.capacity) if bucket else None


TestQuota = BookMachine.TestCase
TestQuota.settings = settings(max_examples=400, stateful_step_count=40, deadline=None)
