"""Many equal observations of a Prometheus histogram as one."""

from bisect import bisect_left
from typing import Any


def observe_times(histogram: Any, value: float, count: int) -> None:
    """As `count` calls of `observe(value)`; prometheus_client has none for it, and a single call
    costs as much as a seventh of a streamed token. `histogram` has all its labels."""
    histogram._sum.inc(value * count)
    histogram._buckets[bisect_left(histogram._upper_bounds, value)].inc(count)
