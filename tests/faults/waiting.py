"""Waiting for what has to come."""

import time
from collections.abc import Callable


def wait_for(condition: Callable[[], bool], failure: str, timeout_s: float = 120) -> float:
    """Seconds until it held. The time-out only keeps a test from hanging."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < timeout_s, failure
        time.sleep(0.05)
    return time.monotonic() - begun
