"""Threads that tenants share: who gives them much to do waits for itself."""

from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import Any

Job = tuple["Future[Any]", Callable[[], Any]]


class FairThreads(Executor):
    """An executor that works for one tenant after the other. `tenant` is asked, by whoever submits,
    whose the work is; None is a tenant too."""

    def __init__(self, num_threads: int, tenant: Callable[[], str | None]) -> None:
        self._threads, self._tenant = ThreadPoolExecutor(num_threads), tenant
        self._lock = Lock()
        # In the order in which work of theirs last began or ended, or they came.
        self._waiting: OrderedDict[str | None, deque[Job]] = OrderedDict()

    def submit(self, work: Callable[..., Any], /, *args: Any, **options: Any) -> "Future[Any]":
        done: Future[Any] = Future()
        tenant = self._tenant()
        with self._lock:
            self._threads.submit(self._do_next)  # as often as there is work, whosever is done then
            self._waiting.setdefault(tenant, deque()).append(
                (done, partial(work, *args, **options))
            )
        return done

    def _do_next(self) -> None:
        with self._lock:
            if not self._waiting:  # cancelled
                return
            tenant, jobs = next(iter(self._waiting.items()))
            done, work = jobs.popleft()
            if jobs:
                self._waiting.move_to_end(tenant)
            else:
                del self._waiting[tenant]
        settle(done, work)
        with self._lock:
            if tenant in self._waiting:
                self._waiting.move_to_end(tenant)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if cancel_futures:
            with self._lock:
                for jobs in self._waiting.values():
                    for done, _ in jobs:
                        done.cancel()
                self._waiting.clear()
        self._threads.shutdown(wait=wait)


def settle(done: "Future[Any]", work: Callable[[], Any]) -> None:
    """Do the work, unless nobody waits for it any more."""
    if not done.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001 (carried to who waits, whatever it is)
        done.set_exception(error)
    else:
        done.set_result(result)
