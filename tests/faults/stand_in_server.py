"""The HTTP side as shipped, in a process of its own, over a stand-in for the engine.

Real: uvicorn, every middleware, the door, keys, metrics. Not real: the model: an answer is `ok`,
a stream sends events of 4 KiB as fast as they are taken, for ever. A whole answer counts as five
tokens; with a directory for usage records, they are written there as the service writes them.

    python -m tests.faults.stand_in_server PORT KEY_FILE LARGEST_NUMBER_OF_DESCRIPTORS [DIRECTORY]
"""

import asyncio
import resource
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import uvloop
from fastapi import Request
from fastapi.responses import StreamingResponse
from prometheus_client import CollectorRegistry

from app.api.metrics import Metrics
from app.api.resources import Resources
from app.core.keys import KeyRing
from app.core.logs import configure_logging
from app.core.meter import current_meter
from app.http_edge import EdgeLimits
from app.server import Listener, bind
from app.settings.key_watch import KeyFileWatch
from app.usage.journal import UsageJournal
from tests.faults.stand_in import REPLICA
from tests.unit.api.conftest import ScriptedEngine, app_with, ready_state

EVENT = "data: " + "x" * 4096 + "\n\n"


async def answer(request: Request) -> Any:
    if not (await request.json()).get("stream"):
        if meter := current_meter.get():
            meter.prompt_tokens, meter.completion_tokens = 4, 1
        return {"ok": True}
    return StreamingResponse(endless_events(), media_type="text/event-stream")


async def endless_events() -> AsyncIterator[str]:
    while True:
        yield EVENT
        await asyncio.sleep(0)


def make_app(keys: KeyRing, metrics: Metrics, usage: Path | None) -> Any:
    resources = Resources(ready_state(), keys, metrics, "0", "bundled")
    engine = ScriptedEngine()
    engine.script = answer
    if usage is not None:
        journal = UsageJournal(usage, REPLICA, 1 << 26, metrics.usage.show)
        journal.start()
        resources.keep_usage = journal.append
    return app_with(resources, engine, max_body_bytes=1 << 20, body_timeout_s=5, sse_keep_alive_s=1)


async def serve(port: int, key_file: Path, usage: Path | None) -> None:
    configure_logging("info", "json")
    metrics = Metrics(CollectorRegistry())
    watch = KeyFileWatch(key_file, metrics.keys.show_file)
    watching = asyncio.create_task(watch.run())
    app = make_app(watch.ring, metrics, usage)
    limits = EdgeLimits(10, 32_768, 100, max_connections=1 << 20, send_timeout_s=60)
    await Listener(app, bind("127.0.0.1", port, "port"), limits).run_until_stopped()
    watching.cancel()


if __name__ == "__main__":
    most = int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    usage = Path(sys.argv[4]) if sys.argv[4:] else None
    uvloop.run(serve(int(sys.argv[1]), Path(sys.argv[2]), usage))
