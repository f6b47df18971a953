"""With the executor of vLLM's own renderer, and what vLLM makes of it."""

import asyncio
import threading
import warnings
from types import SimpleNamespace

from app.core.admission import Admission
from app.core.fair_queue import FairQueue, QueueBounds
from app.core.keys import digest_of, make_key
from app.core.meter import Meter, current_meter
from app.core.quota import QuotaBook
from app.core.tenants import Tenant
from tests.unit.silent_observer import SilentObserver

with warnings.catch_warnings(action="ignore"):  # torch's own, while it is imported
    from vllm.renderers.base import _SwappableExecutor
    from vllm.utils.async_utils import make_async

    from app.engine.renderer_turns import take_turns


def meter_of(name: str) -> Meter:
    observer = SilentObserver()
    queue = FairQueue(QueueBounds(8, 1, 1), observer)
    admission = Admission(QuotaBook(), queue, 16, observer)
    key = make_key(name, digest_of(name), ["infer"])
    return Meter(ticket=admission.open(key, Tenant(name)))


def test_a_light_tenants_prompt_is_rendered_between_those_of_a_heavy_one() -> None:
    executor = _SwappableExecutor(max_workers=1)
    begun, may_go, done = threading.Event(), threading.Event(), list[str]()

    def render(name: str) -> None:
        begun.set()
        assert may_go.wait(30)
        done.append(name)

    render_async = make_async(render, executor=executor)  # before, as vLLM's renderer does
    take_turns(SimpleNamespace(_executor=executor))

    async def ask(tenant: str, name: str) -> None:
        current_meter.set(meter_of(tenant))
        await render_async(name)

    async def ask_all() -> None:
        asking = [asyncio.create_task(ask("heavy", f"h{number}")) for number in range(4)]
        await asyncio.to_thread(begun.wait, 30)
        asking.append(asyncio.create_task(ask("light", "l0")))
        await asyncio.sleep(0)
        may_go.set()
        await asyncio.gather(*asking)

    for _ in range(2):
        asyncio.run(ask_all())
        assert done == ["h0", "l0", "h1", "h2", "h3"]
        begun.clear()
        may_go.clear()
        done.clear()
        executor.replace_inner()
    executor.shutdown()
