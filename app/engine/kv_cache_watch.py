"""Tells the gateway how full the KV cache is, each time the engine says so."""

from collections.abc import Callable
from typing import Any

from vllm.v1.metrics.loggers import StatLoggerBase


class KvCacheWatch(StatLoggerBase):  # type: ignore[misc]
    """One of vLLM's stat loggers; `observe` gets the share in use, from 0 to 1."""

    def __init__(self) -> None:
        self.observe: Callable[[float], None] | None = None

    def record(self, scheduler_stats: Any, *_: Any, **__: Any) -> None:
        if scheduler_stats is not None and self.observe is not None:
            self.observe(scheduler_stats.kv_cache_usage)

    def log_engine_initialized(self) -> None:
        pass
