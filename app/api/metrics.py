"""Every metric of ours. Label values come from the route table, the key file and constants."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from app.core.bounded_names import BoundedNames
from app.core.loaded_model import LoadedModel
from app.core.memory.comparison import Compared
from app.core.meter import Meter
from app.core.quality import Recovery
from app.core.state import Phase
from app.core.usage import JournalState
from app.core.version import VERSION

# From a prefix-cache hit on a small model to a long prompt on a busy card.
TTFT_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 7.5, 10, 20, 40, 80)
INTER_TOKEN_BUCKETS = (
    *(0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1),
    *(0.15, 0.2, 0.3, 0.5, 0.75, 1, 2.5, 5),
)
DURATION_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 45, 60, 120, 300, 600)
REDIS_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)

# Tenants, and keys, that have series of their own; the others share one. About 100 series each.
MAX_NAMES = 256
NO_KEY = "none"
NO_ROUTE = "unmatched"

Metric = TypeVar("Metric", bound=MetricWrapperBase)


class Series:
    """Declares series in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        return remember_labels(Counter(name, text, labels, registry=self._registry))

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return remember_labels(Gauge(name, text, labels, registry=self._registry))

    def histogram(self, name: str, text: str, *labels: str, buckets: Sequence[float]) -> Histogram:
        return remember_labels(
            Histogram(name, text, labels, registry=self._registry, buckets=buckets)
        )


def remember_labels(metric: Metric) -> Metric:
    """Look a series up by its labels once: `labels` takes 4 µs, and a request asks ten times.

    Nothing is remembered that Prometheus's client does not keep for ever itself.
    """
    if metric._labelnames:
        metric.labels = cache(metric.labels)  # type: ignore[method-assign]
    return metric


class RequestMetrics:
    def __init__(self, series: Series) -> None:
        self._keys = BoundedNames(MAX_NAMES)
        self.requests = series.counter(
            "gateway_requests",
            "Answered requests, by route template, HTTP status and key name.",
            *("route", "status", "key"),
        )
        self.num_in_flight = 0
        series.gauge(
            "gateway_requests_in_flight", "Requests that are being answered."
        ).set_function(lambda: self.num_in_flight)
        self.time_to_first_token = series.histogram(
            "gateway_time_to_first_token_seconds",
            "From a request's arrival to the first event of its stream.",
            "route",
            buckets=TTFT_BUCKETS,
        )
        self.inter_token_latency = series.histogram(
            "gateway_inter_token_latency_seconds",
            "Between one event of a stream and the next.",
            "route",
            buckets=INTER_TOKEN_BUCKETS,
        )
        self.duration = series.histogram(
            "gateway_request_duration_seconds",
            "From a request's arrival to the end of its answer.",
            "route",
            buckets=DURATION_BUCKETS,
        )
        self.prompt_tokens = series.counter(
            "gateway_prompt_tokens", "Prompt tokens, by key name.", "key"
        )
        self.completion_tokens = series.counter(
            "gateway_completion_tokens", "Completion tokens, by key name.", "key"
        )

    def answered(self, route: str, status: int, key: str, duration_s: float, meter: Meter) -> None:
        key = self._keys.label(key)
        self.requests.labels(route, str(status), key).inc()
        self.duration.labels(route).observe(duration_s)
        if meter.prompt_tokens:
            self.prompt_tokens.labels(key).inc(meter.prompt_tokens)
            self.completion_tokens.labels(key).inc(meter.completion_tokens)


class KeyMetrics:
    def __init__(self, series: Series) -> None:
        self.auth_failures = series.counter(
            "gateway_auth_failures", "Requests refused for their key.", "reason"
        )
        for reason in ("missing", "unknown", "expired", "scope"):
            self.auth_failures.labels(reason)
        self.file_valid = series.gauge(
            "gateway_key_file_valid",
            "0 while the key file's newest content cannot be used and older keys are in force.",
        )
        self.file_changes = series.counter(
            "gateway_key_file_changes",
            "Contents of the key file seen, by whether they could be used.",
            "result",
        )
        for result in ("taken", "refused"):
            self.file_changes.labels(result)

    def refused(self, reason: str) -> None:
        self.auth_failures.labels(reason).inc()

    def show_file(self, is_valid: bool) -> None:
        self.file_valid.set(is_valid)
        self.file_changes.labels("taken" if is_valid else "refused").inc()


class UsageMetrics:
    def __init__(self, series: Series) -> None:
        self.records = series.gauge(
            "gateway_usage_records",
            "Length of this replica's chain of usage records, as written.",
        )
        self.head = series.gauge(
            "gateway_usage_head",
            "The first 48 bits of the chain's last hash; `usage verify` prints the same number.",
        )
        self.waiting = series.gauge(
            "gateway_usage_waiting", "Usage records that are not on disk yet."
        )
        self.dropped = series.counter(
            "gateway_usage_dropped",
            "Usage records given up because the disk took none for too long.",
        )
        self.failures = series.counter(
            "gateway_usage_write_failures", "Writes of usage records that failed."
        )

    def show(self, journal: JournalState) -> None:
        self.records.set(journal.head.number)
        self.head.set(journal.head.fingerprint)
        self.waiting.set(journal.num_waiting)
        self.dropped.inc(journal.num_dropped)
        self.failures.inc(journal.num_failures)


@dataclass(slots=True)
class Held:
    """What a tenant's running requests hold; changed with every request, and asked for seldom."""

    num_requests: int = 0
    num_tokens: int = 0


class TenantMetrics:
    """What admission and its queue report."""

    def __init__(self, series: Series) -> None:
        self._names = BoundedNames(MAX_NAMES)
        self._held: dict[str, Held] = {}
        self.refusals = series.counter(
            "gateway_refusals",
            "Requests refused by a limit, by tenant and the limit's name.",
            *("tenant", "limit"),
        )
        self.running = series.gauge(
            "gateway_tenant_requests", "Requests that a tenant has running.", "tenant"
        )
        self.reserved_tokens = series.gauge(
            "gateway_tenant_reserved_tokens",
            "Tokens that a tenant's running requests may still use.",
            "tenant",
        )
        self.first_token_latency = series.histogram(
            "gateway_tenant_first_token_seconds",
            "From a request's arrival to the engine's first token, streamed or not.",
            "tenant",
            buckets=TTFT_BUCKETS,
        )
        self.tokens = series.counter(
            "gateway_tenant_tokens",
            "Tokens, by tenant and kind: prompt, cached (of the prompt), completion.",
            *("tenant", "kind"),
        )
        self.queue_wait = series.histogram(
            "gateway_queue_wait_seconds",
            "How long a prompt waited in the gateway for a place in the engine.",
            "tenant",
            buckets=(0.001, *TTFT_BUCKETS),
        )
        self.queue_waiting = series.gauge(
            "gateway_queue_waiting",
            "Prompts that wait in the gateway for a place in the engine.",
            "tenant",
        )
        # For who takes one series of a replica: the custom metrics API, an endpoint picker.
        self.queue_depth = series.gauge("gateway_queue_depth", "The same, of all tenants together.")

    def answered(self, tenant: str, meter: Meter) -> None:
        if meter.prompt_tokens:
            tenant = self._names.label(tenant)
            self.tokens.labels(tenant, "prompt").inc(meter.prompt_tokens)
            self.tokens.labels(tenant, "cached").inc(meter.cached_tokens)
            self.tokens.labels(tenant, "completion").inc(meter.completion_tokens)

    def refused(self, tenant: str, reason: str) -> None:
        self.refusals.labels(self._names.label(tenant), reason).inc()

    def reserved(self, tenant: str, num_requests: int, num_tokens: int) -> None:
        held = self._held_by(self._names.label(tenant))
        held.num_requests += num_requests
        held.num_tokens += num_tokens

    def _held_by(self, label: str) -> Held:
        held = self._held.get(label)
        if held is None:
            held = self._held[label] = Held()
            self.running.labels(label).set_function(lambda: held.num_requests)
            self.reserved_tokens.labels(label).set_function(lambda: held.num_tokens)
        return held

    def first_token(self, tenant: str, after_s: float) -> None:
        self.first_token_latency.labels(self._names.label(tenant)).observe(after_s)

    def waiting(self, tenant: str, change: int) -> None:
        self.queue_waiting.labels(self._names.label(tenant)).inc(change)
        self.queue_depth.inc(change)

    def admitted(self, tenant: str, waited_s: float) -> None:
        self.queue_wait.labels(self._names.label(tenant)).observe(waited_s)


class RedisMetrics:
    def __init__(self, series: Series) -> None:
        self.away = series.gauge(
            "gateway_redis_away", "1 while the Redis of the shared limits does not answer."
        )
        self.duration = series.histogram(
            "gateway_redis_duration_seconds",
            "From a step of the shared limits to Redis' answer, by what was asked.",
            "operation",
            buckets=REDIS_BUCKETS,
        )
        self.failures = series.counter(
            "gateway_redis_failures",
            "Steps of the shared limits that Redis did not answer, or answered with an error.",
            "operation",
        )
        self.lapsed = series.counter(
            "gateway_redis_lapsed_leases",
            "Reservations that lapsed in Redis while their requests ran here.",
        )

    def redis_up(self, is_up: bool) -> None:
        self.away.set(not is_up)

    def redis_answered(self, operation: str, seconds: float) -> None:
        self.duration.labels(operation).observe(seconds)

    def redis_failed(self, operation: str) -> None:
        self.failures.labels(operation).inc()

    def leases_lapsed(self, number: int) -> None:
        self.lapsed.inc(number)


class ModelMetrics:
    def __init__(self, series: Series) -> None:
        self.build = series.gauge("gateway_build_info", "1, with versions.", "version", "vllm")
        self.quantization = series.gauge(
            "gateway_quantization_info",
            "1, with the scheme and the kernel class that vLLM chose.",
            *("scheme", "kernel"),
        )
        self.recovery = series.gauge(
            "gateway_recovery_ratio",
            "Accuracy kept of the original model, by the quality report: its estimate, and the low "
            "and high end of its 95 % interval. None where nothing is proved.",
            "bound",
        )
        self.memory = series.gauge(
            "gateway_memory_bytes",
            "Memory by part (weights, kv_cache, peak): as planned, and as the engine holds it.",
            *("part", "kind"),
        )
        self.memory_ratio = series.gauge(
            "gateway_memory_planned_ratio",
            "Planned to actual memory, by part: above 1 where more was planned.",
            "part",
        )

    def show_loaded(self, loaded: LoadedModel, vllm_version: str) -> None:
        self.build.labels(VERSION, vllm_version).set(1)
        self.quantization.labels(loaded.scheme, loaded.kernel).set(1)

    def show_recovery(self, recovery: Recovery) -> None:
        percents = {"estimate": recovery.percent, "low": recovery.low, "high": recovery.high}
        for bound, percent in percents.items():
            self.recovery.labels(bound).set(percent / 100)

    def show_memory(self, compared: Sequence[Compared]) -> None:
        for each in compared:
            self.memory.labels(each.name, "planned").set(each.planned)
            self.memory.labels(each.name, "actual").set(each.actual)
            self.memory_ratio.labels(each.name).set(each.ratio)


class LifeMetrics:
    """Of the process: its state, its start, and whether the engine answers it."""

    def __init__(self, series: Series) -> None:
        self.engine_silence = series.gauge(
            "gateway_engine_silence_seconds",
            "How long the engine has not answered the heartbeat, which is sent every second.",
        )
        self.tasks = series.gauge("gateway_tasks", "Tasks of the event loop that are not done.")
        self.start = series.gauge(
            "gateway_start_seconds",
            "Where the time of the start went: process, checks, imports, engine, warm_up.",
            "phase",
        )
        self.state = series.gauge("gateway_state", "1 for the state the service is in.", "state")
        self.show_phase(Phase.STARTING)

    def show_phase(self, current: Phase) -> None:
        for phase in Phase:
            self.state.labels(phase.value).set(phase is current)

    def show_start(self, seconds: Mapping[str, float]) -> None:
        for phase, spent in seconds.items():
            self.start.labels(phase).set(spent)


class Metrics:
    """The gateway's own series; vLLM's `vllm:` ones stand beside them in the same registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        series = Series(registry)
        self.requests = RequestMetrics(series)
        self.keys = KeyMetrics(series)
        self.usage = UsageMetrics(series)
        self.tenants = TenantMetrics(series)
        self.redis = RedisMetrics(series)
        self.model = ModelMetrics(series)
        self.life = LifeMetrics(series)
