import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future

import pytest

from app.core.fair_threads import FairThreads


class Work:
    """What is done in the threads, in the order in which it was; nothing before `go`."""

    def __init__(self) -> None:
        self.tenant: str | None = None
        self.begun, self.may_go = threading.Event(), threading.Event()
        self.done: list[str] = []
        self.threads = FairThreads(1, lambda: self.tenant)

    def give(self, tenant: str | None, name: str) -> "Future[None]":
        self.tenant = tenant
        return self.threads.submit(self.do, name)

    def do(self, name: str) -> None:
        self.begun.set()
        assert self.may_go.wait(30)
        if name == "broken":
            raise ValueError(name)
        self.done.append(name)

    def go(self) -> list[str]:
        self.may_go.set()
        self.threads.shutdown()
        return self.done


@pytest.fixture
def work() -> Iterator[Work]:
    made = Work()
    yield made
    made.go()


def test_a_tenant_waits_for_the_work_that_runs_and_for_no_heap_of_another(work: Work) -> None:
    for number in range(5):
        work.give("heavy", f"h{number}")
    assert work.begun.wait(30)
    work.give("light", "l0")
    work.give("light", "l1")
    work.give(None, "n0")
    assert work.go() == ["h0", "l0", "n0", "h1", "l1", "h2", "h3", "h4"]


def test_what_fails_says_so_to_who_gave_it_and_costs_nobody_else(work: Work) -> None:
    broken, whole = work.give("a", "broken"), work.give("a", "whole")
    work.may_go.set()
    with pytest.raises(ValueError, match="broken"):
        broken.result(30)
    assert whole.result(30) is None


def test_what_nobody_waits_for_is_not_done(work: Work) -> None:
    work.give("a", "first")
    assert work.begun.wait(30)
    left = work.give("a", "second")
    work.give("a", "third")
    assert left.cancel()
    assert work.go() == ["first", "third"]
    assert not work.threads._waiting


def test_at_the_end_what_waits_can_be_given_up(work: Work) -> None:
    work.give("a", "first")
    assert work.begun.wait(30)
    waiting = work.give("b", "second")
    work.threads.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(CancelledError):
        waiting.result(30)
    assert work.go() == ["first"]
    with pytest.raises(RuntimeError):
        work.give("a", "late")
