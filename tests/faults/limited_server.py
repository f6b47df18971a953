"""The stand-in server with limits in Redis: an answer takes 10 ms and a place, as in the engine.

python -m tests.faults.limited_server PORT KEY_FILE REDIS_URL WHEN_REDIS_FAILS REDIS_TIMEOUT_S
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

import uvloop
from fastapi import Request
from prometheus_client import CollectorRegistry

from app.api.metrics import Metrics
from app.api.resources import Resources
from app.core.admission import Admission
from app.core.fair_queue import FairQueue, QueueBounds
from app.core.logs import configure_logging
from app.core.meter import current_meter
from app.core.quota import QuotaBook
from app.http_edge import EdgeLimits
from app.server import Listener, bind
from app.settings.key_file import read_keys
from app.shared_limits.address import parse_address
from app.shared_limits.redis_quota import RedisQuota, make_redis_quota
from tests.unit.api.conftest import ScriptedEngine, app_with, ready_state


async def answer(_: Request) -> Any:
    meter = current_meter.get()
    assert meter is not None
    assert meter.ticket is not None
    place = await meter.ticket.enter(5, 20, 1)
    await asyncio.sleep(0.01)
    meter.prompt_tokens, meter.completion_tokens = 5, 10
    meter.ticket.leave(place)
    return {"ok": True}


def make_app(key_file: Path, store: RedisQuota, metrics: Metrics) -> Any:
    resources = Resources(ready_state(), read_keys(key_file), metrics, "0", "bundled")
    queue = FairQueue(QueueBounds(1000, 30, 1.0), metrics.tenants)
    queue.open(1000, 0)
    resources.admission = Admission(store, queue, 50, metrics.tenants)
    resources.describe_limits = store.describe
    engine = ScriptedEngine()
    engine.script = answer
    return app_with(resources, engine, max_body_bytes=1 << 20, body_timeout_s=5, sse_keep_alive_s=1)


async def serve(port: int, key_file: Path, redis_url: str, policy: str, timeout_s: float) -> None:
    configure_logging("info", "json")
    metrics = Metrics(CollectorRegistry())
    fallback = QuotaBook() if policy == "fail_open" else None
    store = make_redis_quota(
        parse_address(redis_url),
        metrics.redis,
        prefix=policy,
        timeout_s=timeout_s,
        lease_s=30,
        fallback=fallback,
    )
    app = make_app(key_file, store, metrics)
    await store.open(patience_s=20)
    limits = EdgeLimits(10, 32_768, 100, max_connections=1 << 20, send_timeout_s=60)
    keeping = asyncio.create_task(store.keep_up())
    await Listener(app, bind("127.0.0.1", port, "port"), limits).run_until_stopped()
    keeping.cancel()


if __name__ == "__main__":
    port, key_file, redis_url, policy, timeout_s = sys.argv[1:]
    uvloop.run(serve(int(port), Path(key_file), redis_url, policy, float(timeout_s)))
