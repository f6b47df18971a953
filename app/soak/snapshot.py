"""What a gateway holds while nobody asks it anything: what leaks shows there."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.bench.process_cpu import PROC, resident_bytes
from app.bench.target import Target, read_samples, read_status
from app.core.errors import AppError

REST_S = 60.0
# Connections that were closed last, and what the engine still says of its last step.
SETTLE_S = 5.0
# What leaks is there at each of several looks; a heartbeat's task, say, only at some.
NUM_READINGS, READ_EVERY_S = 8, 0.3


class SoakError(AppError):
    """The gateway does not come to rest; the sentence says what goes on."""


@dataclass(frozen=True)
class Gauge:
    """`slack`: how much more there may be at the end; a share of the start, or a number."""

    name: str
    title: str
    slack: float = 0
    is_share: bool = False

    def is_flat(self, before: float, after: float) -> bool:
        return after <= before * (1 + self.slack) if self.is_share else after <= before + self.slack


PROCESS_GAUGES = (
    Gauge("rss", "resident memory of the gateway, MiB", 0.02, is_share=True),
    Gauge("descriptors", "file descriptors"),
    # A pool of threads grows with the crowd that it has seen; it has a bound.
    Gauge("threads", "threads", 4),
)
SERIES = (
    Gauge("gateway_tasks", "tasks"),
    Gauge("vllm:kv_cache_usage_perc", "share of KV blocks in use"),
    Gauge("vllm:num_requests_running", "requests that the engine runs"),
    Gauge("vllm:num_requests_waiting", "requests that wait in the engine"),
    Gauge("gateway_queue_waiting", "requests that wait in the gateway"),
    Gauge("gateway_requests_in_flight", "requests in flight (this one)"),
    Gauge("gateway_tenant_requests", "requests that tenants have running"),
    Gauge("gateway_tenant_reserved_tokens", "tokens that are reserved"),
    Gauge("gateway_usage_waiting", "usage records that are not written"),
)
GAUGES = PROCESS_GAUGES + SERIES
Snapshot = dict[str, float]


def take_snapshot(target: Target, pid: int) -> Snapshot:
    """Once the gateway is at rest. Raises SoakError where it does not come to rest."""
    wait_until(lambda: is_at_rest(target), "requests go on for nobody")
    time.sleep(SETTLE_S)
    readings = []
    for _ in range(NUM_READINGS):
        time.sleep(READ_EVERY_S)
        readings.append(read_once(target, pid))
    return {name: min(reading[name] for reading in readings) for name in readings[0]}


def read_once(target: Target, pid: int) -> Snapshot:
    found = {gauge.name: 0.0 for gauge in SERIES}
    for sample in read_samples(target):
        if sample.name in found:  # the sum over its labels
            found[sample.name] += sample.value
    found["rss"] = resident_bytes([pid]) / 2**20
    found["descriptors"] = num_entries(PROC / str(pid) / "fd")
    found["threads"] = num_entries(PROC / str(pid) / "task")
    return found


def num_entries(folder: Path) -> int:
    return sum(1 for _ in folder.iterdir())


def is_at_rest(target: Target) -> bool:
    queue = read_status(target)["queue"]
    return not any(queue.values())


def wait_until(condition: Callable[[], bool], failure: str) -> None:
    deadline = time.monotonic() + REST_S
    while not condition():
        if time.monotonic() > deadline:
            raise SoakError(f"The gateway does not come to rest: {failure}.")
        time.sleep(0.2)
