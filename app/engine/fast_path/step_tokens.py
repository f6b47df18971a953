"""What vLLM's statistics would note of outputs that its output processor does not get."""

from collections import Counter
from typing import Any

from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.metrics.loggers import PrometheusStatLogger
from vllm.v1.metrics.stats import IterationStats

from app.core.histogram_counts import observe_times


class StepTokens:
    """The tokens of one step, none of them its request's first. Most came equally long after the
    one before them: gaps are counted, not noted one by one."""

    __slots__ = ("_before_s", "_num_tokens", "timestamp")

    def __init__(self, timestamp: float) -> None:
        self.timestamp = timestamp
        self._num_tokens = 0
        self._before_s: list[float] = []

    def note(self, num_tokens: int, before_s: float) -> None:
        """Of one request, whose last ones came at `before_s`."""
        self._num_tokens += num_tokens
        self._before_s.append(before_s)

    def add_to(self, stats: IterationStats, token_gaps: Any) -> None:
        """`token_gaps`: the histogram that they end up in; None: `stats` lists them for it."""
        stats.num_generation_tokens += self._num_tokens
        for before_s, count in Counter(self._before_s).items():
            gap = self.timestamp - before_s
            if token_gaps is None:
                stats.inter_token_latencies_iter += [gap] * count
            else:
                observe_times(token_gaps, gap, count)


def find_token_gaps(client: AsyncLLM) -> Any:
    """vLLM's own histogram of the times between tokens, where one serves all of this client."""
    manager = client.logger_manager
    found = [
        histogram
        for each in (manager.stat_loggers if manager is not None else ())
        if isinstance(each, PrometheusStatLogger)
        for histogram in each.histogram_inter_token_latency.values()
    ]
    return found[0] if len(found) == 1 else None
