"""Every metric of ours. Label values come from the route table, the key file and constants."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache

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


class Metrics:
    """The gateway's own series; vLLM's `vllm:` ones stand beside them in the same registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.keys, self.tenants = BoundedNames(MAX_NAMES), BoundedNames(MAX_NAMES)
        self.requests = Counter(
            "gateway_requests",
            "Answered requests, by route template, HTTP status and key name.",
            ["route", "status", "key"],
            registry=registry,
        )
        self.in_flight = Gauge(
            "gateway_requests_in_flight", "Requests that are being answered.", registry=registry
        )
        self.time_to_first_token = Histogram(
            "gateway_time_to_first_token_seconds",
            "From a request's arrival to the first event of its stream.",
            ["route"],
            buckets=TTFT_BUCKETS,
            registry=registry,
        )
        self.inter_token_latency = Histogram(
            "gateway_inter_token_latency_seconds",
            "Between one event of a stream and the next.",
            ["route"],
            buckets=INTER_TOKEN_BUCKETS,
            registry=registry,
        )
        self.duration = Histogram(
            "gateway_request_duration_seconds",
            "From a request's arrival to the end of its answer.",
            ["route"],
            buckets=DURATION_BUCKETS,
            registry=registry,
        )
        self.prompt_tokens = Counter(
            "gateway_prompt_tokens", "Prompt tokens, by key name.", ["key"], registry=registry
        )
        self.completion_tokens = Counter(
            "gateway_completion_tokens",
            "Completion tokens, by key name.",
            ["key"],
            registry=registry,
        )
        self.auth_failures = Counter(
            "gateway_auth_failures",
            "Requests refused for their key.",
            ["reason"],
            registry=registry,
        )
        for reason in ("missing", "unknown", "expired", "scope"):
            self.auth_failures.labels(reason)
        self.key_file_valid = Gauge(
            "gateway_key_file_valid",
            "0 while the key file's newest content cannot be used and older keys are in force.",
            registry=registry,
        )
        self.key_file_changes = Counter(
            "gateway_key_file_changes",
            "Contents of the key file seen, by whether they could be used.",
            ["result"],
            registry=registry,
        )
        for result in ("taken", "refused"):
            self.key_file_changes.labels(result)
        self.usage_records = Gauge(
            "gateway_usage_records",
            "Length of this replica's chain of usage records, as written.",
            registry=registry,
        )
        self.usage_head = Gauge(
            "gateway_usage_head",
            "The first 48 bits of the chain's last hash; `usage verify` prints the same number.",
            registry=registry,
        )
        self.usage_waiting = Gauge(
            "gateway_usage_waiting", "Usage records that are not on disk yet.", registry=registry
        )
        self.usage_dropped = Counter(
            "gateway_usage_dropped",
            "Usage records given up because the disk took none for too long.",
            registry=registry,
        )
        self.usage_failures = Counter(
            "gateway_usage_write_failures",
            "Writes of usage records that failed.",
            registry=registry,
        )
        self.refusals = Counter(
            "gateway_refusals",
            "Requests refused by a limit, by tenant and the limit's name.",
            ["tenant", "limit"],
            registry=registry,
        )
        self.tenant_running = Gauge(
            "gateway_tenant_requests",
            "Requests that a tenant has running.",
            ["tenant"],
            registry=registry,
        )
        self.tenant_reserved = Gauge(
            "gateway_tenant_reserved_tokens",
            "Tokens that a tenant's running requests may still use.",
            ["tenant"],
            registry=registry,
        )
        self.tenant_first_token = Histogram(
            "gateway_tenant_first_token_seconds",
            "From a request's arrival to the engine's first token, streamed or not.",
            ["tenant"],
            buckets=TTFT_BUCKETS,
            registry=registry,
        )
        self.tenant_tokens = Counter(
            "gateway_tenant_tokens",
            "Tokens, by tenant and kind: prompt, cached (of the prompt), completion.",
            ["tenant", "kind"],
            registry=registry,
        )
        self.queue_wait = Histogram(
            "gateway_queue_wait_seconds",
            "How long a prompt waited in the gateway for a place in the engine.",
            ["tenant"],
            buckets=(0.001, *TTFT_BUCKETS),
            registry=registry,
        )
        self.queue_waiting = Gauge(
            "gateway_queue_waiting",
            "Prompts that wait in the gateway for a place in the engine.",
            ["tenant"],
            registry=registry,
        )
        # For who takes one series of a replica: the custom metrics API, an endpoint picker.
        self.queue_depth = Gauge(
            "gateway_queue_depth", "The same, of all tenants together.", registry=registry
        )
        self.redis_away = Gauge(
            "gateway_redis_away",
            "1 while the Redis of the shared limits does not answer.",
            registry=registry,
        )
        self.redis_duration = Histogram(
            "gateway_redis_duration_seconds",
            "From a step of the shared limits to Redis' answer, by what was asked.",
            ["operation"],
            buckets=REDIS_BUCKETS,
            registry=registry,
        )
        self.redis_failures = Counter(
            "gateway_redis_failures",
            "Steps of the shared limits that Redis did not answer, or answered with an error.",
            ["operation"],
            registry=registry,
        )
        self.redis_lapsed = Counter(
            "gateway_redis_lapsed_leases",
            "Reservations that lapsed in Redis while their requests ran here.",
            registry=registry,
        )
        self.build = Gauge(
            "gateway_build_info", "1, with versions.", ["version", "vllm"], registry=registry
        )
        self.quantization = Gauge(
            "gateway_quantization_info",
            "1, with the scheme and the kernel class that vLLM chose.",
            ["scheme", "kernel"],
            registry=registry,
        )
        self.recovery = Gauge(
            "gateway_recovery_ratio",
            "Accuracy kept of the original model, by the quality report: its estimate, and the low "
            "and high end of its 95 % interval. None where nothing is proved.",
            ["bound"],
            registry=registry,
        )
        self.memory = Gauge(
            "gateway_memory_bytes",
            "Memory by part (weights, kv_cache, peak): as planned, and as the engine holds it.",
            ["part", "kind"],
            registry=registry,
        )
        self.memory_ratio = Gauge(
            "gateway_memory_planned_ratio",
            "Planned to actual memory, by part: above 1 where more was planned.",
            ["part"],
            registry=registry,
        )
        self.engine_silence = Gauge(
            "gateway_engine_silence_seconds",
            "How long the engine has not answered the heartbeat, which is sent every second.",
            registry=registry,
        )
        self.tasks = Gauge(
            "gateway_tasks", "Tasks of the event loop that are not done.", registry=registry
        )
        self.start = Gauge(
            "gateway_start_seconds",
            "Where the time of the start went: process, checks, imports, engine, warm_up.",
            ["phase"],
            registry=registry,
        )
        self.state = Gauge(
            "gateway_state", "1 for the state the service is in.", ["state"], registry=registry
        )
        remember_labels(each for each in vars(self).values() if isinstance(each, MetricWrapperBase))
        self.show_phase(Phase.STARTING)

    def show_phase(self, current: Phase) -> None:
        for phase in Phase:
            self.state.labels(phase.value).set(phase is current)

    def show_key_file(self, is_valid: bool) -> None:
        self.key_file_valid.set(is_valid)
        self.key_file_changes.labels("taken" if is_valid else "refused").inc()

    def show_usage(self, journal: JournalState) -> None:
        self.usage_records.set(journal.head.number)
        self.usage_head.set(journal.head.fingerprint)
        self.usage_waiting.set(journal.num_waiting)
        self.usage_dropped.inc(journal.num_dropped)
        self.usage_failures.inc(journal.num_failures)

    def answered(self, route: str, status: int, key: str, tenant: str, meter: Meter) -> None:
        """A request is over."""
        key = self.keys.label(key)
        self.requests.labels(route, str(status), key).inc()
        if meter.prompt_tokens:
            self.prompt_tokens.labels(key).inc(meter.prompt_tokens)
            self.completion_tokens.labels(key).inc(meter.completion_tokens)
            tenant = self.tenants.label(tenant)
            self.tenant_tokens.labels(tenant, "prompt").inc(meter.prompt_tokens)
            self.tenant_tokens.labels(tenant, "cached").inc(meter.cached_tokens)
            self.tenant_tokens.labels(tenant, "completion").inc(meter.completion_tokens)

    def refused(self, tenant: str, reason: str) -> None:
        self.refusals.labels(self.tenants.label(tenant), reason).inc()

    def reserved(self, tenant: str, num_requests: int, num_tokens: int) -> None:
        tenant = self.tenants.label(tenant)
        self.tenant_running.labels(tenant).inc(num_requests)
        self.tenant_reserved.labels(tenant).inc(num_tokens)

    def redis_up(self, is_up: bool) -> None:
        self.redis_away.set(not is_up)

    def redis_answered(self, operation: str, seconds: float) -> None:
        self.redis_duration.labels(operation).observe(seconds)

    def redis_failed(self, operation: str) -> None:
        self.redis_failures.labels(operation).inc()

    def leases_lapsed(self, number: int) -> None:
        self.redis_lapsed.inc(number)

    def first_token(self, tenant: str, after_s: float) -> None:
        self.tenant_first_token.labels(self.tenants.label(tenant)).observe(after_s)

    def show_start(self, seconds: Mapping[str, float]) -> None:
        for phase, spent in seconds.items():
            self.start.labels(phase).set(spent)

    def waiting(self, tenant: str, change: int) -> None:
        self.queue_waiting.labels(self.tenants.label(tenant)).inc(change)
        self.queue_depth.inc(change)

    def admitted(self, tenant: str, waited_s: float) -> None:
        self.queue_wait.labels(self.tenants.label(tenant)).observe(waited_s)

    def show_model(self, loaded: LoadedModel, vllm_version: str) -> None:
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


def remember_labels(metrics: Iterable[MetricWrapperBase]) -> None:
    """Look a series up by its labels once: `labels` takes 4 µs, and a request asks ten times.

    Nothing is remembered that Prometheus's client does not keep for ever itself.
    """
    for metric in metrics:
        if metric._labelnames:
            metric.labels = cache(metric.labels)  # type: ignore[method-assign]
