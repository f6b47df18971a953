"""vLLM's renderer works for the tenants in turn.

It has one thread, first come, first served, and a text of 2 MB keeps it for seconds. What waits
there for 30 s has failed for vLLM, a neighbour's short chat too.
"""

from typing import Any

from app.core.fair_threads import FairThreads
from app.core.meter import current_meter


def take_turns(renderer: Any) -> None:
    """Put fair threads below the executor that `renderer` holds on to, now and whenever vLLM
    replaces those that are there."""
    executor = renderer._executor

    def replace_threads() -> None:
        replaced = executor._inner
        executor._inner = FairThreads(executor._max_workers, tenant_in_hand)
        replaced.shutdown(wait=False)

    executor.replace_inner = replace_threads
    replace_threads()


def tenant_in_hand() -> str | None:
    """Whose request is being worked on here."""
    meter = current_meter.get()
    return meter.ticket.tenant.name if meter is not None and meter.ticket else None
