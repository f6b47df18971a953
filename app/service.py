"""The parts of a running service, and how they meet."""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prometheus_client import REGISTRY

from app.api.application import create_app, create_management_app, join_engine
from app.api.metrics import Metrics
from app.api.resources import Resources
from app.core.admission import Admission
from app.core.engine_options import EngineOptions
from app.core.fair_queue import FairQueue, QueueBounds
from app.core.heartbeat import Heartbeat
from app.core.memory.comparison import Compared, compare_loaded
from app.core.memory.plan import Plan
from app.core.preflight import is_pinned
from app.core.quality import prove
from app.core.quota import QuotaBook
from app.core.request_rules import RequestRules
from app.core.start_times import StartTimes
from app.core.state import ServiceState
from app.core.version import VERSION
from app.http_edge import EdgeLimits, allow_connections
from app.lifecycle import in_daemon_thread
from app.server import Listener, bind
from app.settings.key_watch import KeyFileWatch
from app.settings.model import LimitsSettings, QueueSettings, Settings, UsageSettings
from app.usage.journal import UsageJournal

if TYPE_CHECKING:
    from app.shared_limits.address import RedisAddress
    from app.shared_limits.redis_quota import RedisQuota

logger = logging.getLogger("gateway")
ENGINE_STOP_S = 5.0
REDIS_PATIENCE_S = 15.0  # it may be starting at the same time
FLUSH_SPANS_S = 2.0


def wanted_scheme(settings: Settings) -> str | None:
    return None if settings.model.allow_unquantized else settings.model.scheme


def engine_options(settings: Settings) -> EngineOptions:
    shared = settings.engine.model_dump()
    return EngineOptions(
        model=settings.model.path,
        revision=settings.model.revision,
        served_name=settings.model.name,
        otlp_endpoint=settings.tracing.otlp_endpoint,
        **shared,
    )


def make_queue(settings: QueueSettings, metrics: Metrics) -> FairQueue:
    bounds = QueueBounds(settings.max_waiting, settings.max_wait_s, settings.kv_cache_high)
    return FairQueue(bounds, metrics.tenants)


def redis_address(settings: LimitsSettings) -> "RedisAddress | None":
    """None where each process counts by itself. Raises SettingsError for a wrong one."""
    if settings.redis_url is None:
        return None
    from app.shared_limits.address import parse_address

    return parse_address(settings.redis_url.get_secret_value())


def make_shared_quota(settings: LimitsSettings, metrics: Metrics) -> "RedisQuota | None":
    address = redis_address(settings)
    if address is None:
        return None
    from app.shared_limits.redis_quota import make_redis_quota

    return make_redis_quota(
        address,
        metrics.redis,
        prefix=settings.redis_prefix,
        timeout_s=settings.redis_timeout_s,
        lease_s=settings.redis_lease_s,
        fallback=QuotaBook() if settings.when_redis_fails == "fail_open" else None,
    )


def open_journal(settings: UsageSettings, metrics: Metrics) -> UsageJournal | None:
    if settings.directory is None:
        return None
    journal = UsageJournal(
        Path(settings.directory),
        settings.replica or socket.gethostname(),
        settings.max_file_bytes,
        metrics.usage.show,
    )
    journal.start()
    return journal


class Service:
    """One service, from its settings to its end."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.state = ServiceState(ready_when_saturated=settings.server.ready_when_saturated)
        self.heartbeat = Heartbeat(self.answer_heartbeat, settings.server.hung_after_s)
        self.plan: Plan | None = None
        metrics = Metrics(REGISTRY)
        metrics.life.engine_silence.set_function(lambda: self.heartbeat.silent_s)
        loop = asyncio.get_running_loop()
        metrics.life.tasks.set_function(lambda: len(asyncio.all_tasks(loop)))
        self.times = StartTimes()
        self.state.once_ready(self.show_start_times)
        self.state.observers.append(metrics.life.show_phase)
        self.state.observers.append(lambda phase: logger.info("state", extra={"state": phase}))
        self.key_watch = KeyFileWatch(Path(settings.auth.keys_file), metrics.keys.show_file)
        self.resources = Resources(
            state=self.state,
            keys=self.key_watch.ring,
            metrics=metrics,
            version=VERSION,
            model_name=settings.model.name,
        )
        self.queue = make_queue(settings.queue, metrics)
        self.shared_quota = make_shared_quota(settings.limits, metrics)
        if self.shared_quota is not None:
            self.resources.describe_limits = self.shared_quota.describe
        self.resources.admission = Admission(
            self.shared_quota or QuotaBook(),
            self.queue,
            settings.limits.default_max_tokens,
            metrics.tenants,
            settings.limits.max_timeout_s,
        )
        self.journal = open_journal(settings.usage, metrics)
        if self.journal is not None:
            self.resources.keep_usage = self.journal.append
        self.app = create_app(
            self.resources,
            rules=RequestRules(settings.limits.of_request),
            max_body_bytes=settings.limits.max_body_bytes,
            body_timeout_s=settings.server.body_timeout_s,
            sse_keep_alive_s=settings.server.sse_keep_alive_s,
            traces=settings.tracing.otlp_endpoint is not None,
        )
        self.listeners = list(self.make_listeners())

    def make_listeners(self) -> Iterator[Listener]:
        server = self.settings.server
        tls = {"ssl_certfile": server.tls_certificate, "ssl_keyfile": server.tls_key}
        sock = bind(server.host, server.port, "server.port (PORT)")
        limits = EdgeLimits(
            server.header_timeout_s,
            server.max_header_bytes,
            server.max_headers,
            server.max_connections,
            server.send_timeout_s,
        )
        allow_connections(server.max_connections)
        yield Listener(self.app, sock, limits, timeout_keep_alive=server.keep_alive_s, **tls)
        if server.management_port is not None:
            sock = bind(server.management_host, server.management_port, "server.management_port")
            yield Listener(create_management_app(self.resources), sock, limits)

    def load(self) -> Any:
        """In a thread: import vLLM and start the engine; takes from seconds to minutes."""
        from app.engine.environment import (
            disable_compiling_without_compiler,
            prepare_environment,
        )
        from app.plan.read_ahead import read_ahead

        options = engine_options(self.settings)
        token = self.settings.model.hf_token
        secret = token.get_secret_value() if token else None
        prepare_environment(options, self.settings.log.level, secret, os.environ)
        if disable_compiling_without_compiler(os.environ):
            logger.warning("there is no C++ compiler: nothing is compiled; install g++ for speed")
        if not is_pinned(options.model, options.revision):
            logger.warning(
                "model.revision is no commit: what the next start loads may be another model",
                extra={"model": options.model, "revision": options.revision},
            )
        with self.times.phase("checks"):
            self.check_machine(options)
            self.prove_quality(options.model)
        read_ahead(options.model, options.revision)
        logger.info("importing vLLM")
        with self.times.phase("imports"):
            from app.engine.serving import Engine

        logger.info("loading the model", extra={"model": options.model})
        with self.times.phase("engine"):
            timeout_s = self.settings.limits.compile_timeout_s
            return Engine(options, wanted_scheme(self.settings), timeout_s)

    def prove_quality(self, model: str) -> None:
        self.resources.recovery = prove(model, self.settings.quality.min_recovery)
        if self.resources.recovery is not None:
            self.resources.metrics.model.show_recovery(self.resources.recovery)

    def check_machine(self, options: EngineOptions) -> None:
        """Raises a StartError for what cannot work here, before any weight is read."""
        from app.plan.preflight import check_start, plan_summary

        self.plan = check_start(options, wanted_scheme(self.settings))
        if self.plan is not None:
            self.resources.plan = plan_summary(self.plan)

    async def connect(self, engine: Any) -> None:
        self.resources.engine = engine
        with self.times.phase("warm_up"):
            await engine.connect(self.app.state)
            fast_path = self.settings.server.fast_path == "auto"
            join_engine(self.app, engine.routers, engine.open_fast_path() if fast_path else None)
            await asyncio.to_thread(self.app.openapi)  # once, now: a second for vLLM's models
        loaded = engine.loaded
        engine.watch_kv_cache(self.queue.note_kv_cache)
        lookahead = self.settings.queue.lookahead
        most = loaded.max_num_seqs
        self.queue.open(most, max(1, most // 16) if lookahead is None else lookahead)
        self.resources.metrics.model.show_loaded(loaded, engine.version)
        extra = {
            "scheme": loaded.scheme,
            "kernel": loaded.kernel,
            "kv_tokens": loaded.num_kv_tokens,
        }
        logger.info("loaded", extra=extra)
        if self.plan is not None:
            self.show_memory(compare_loaded(self.plan, loaded))

    def show_start_times(self) -> None:
        """From `exec` to ready: in the log and in the metrics."""
        self.resources.metrics.life.show_start(self.times.seconds)
        rounded = {f"{name}_s": round(spent, 1) for name, spent in self.times.seconds.items()}
        logger.info("started", extra=rounded | {"total_s": round(self.times.total_s, 1)})

    def show_memory(self, compared: Sequence[Compared]) -> None:
        """How right the plan was: in the log, in the metrics, in /admin/status."""
        self.resources.metrics.model.show_memory(compared)
        for each in compared:
            said = {"planned_bytes": each.planned, "actual_bytes": each.actual}
            self.resources.plan = {**self.resources.plan, each.name: said}
            extra = {"part": each.name, **said, "ratio": round(each.ratio, 4)}
            logger.info("memory planned and actual", extra=extra)

    def is_dead(self) -> bool:
        return self.resources.engine is not None and self.resources.engine.is_dead

    def is_full(self) -> bool:
        """Requests in hand, counting those in the gateway's own queue and each sequence of one."""
        engine = self.resources.engine
        if engine is None:
            return False
        return max(self.state.num_running, engine.num_unfinished) > engine.loaded.max_num_seqs

    async def share_limits(self) -> None:
        """For as long as the service runs. Raises StartError where that cannot be."""
        if self.shared_quota is None:
            await asyncio.Event().wait()
        else:
            await self.shared_quota.open(REDIS_PATIENCE_S)
            await self.shared_quota.keep_up()

    async def answer_heartbeat(self) -> None:
        if self.resources.engine is not None:
            await self.resources.engine.answer_heartbeat()

    def kill(self) -> None:
        if self.resources.engine is not None:
            self.resources.engine.kill()

    async def flush_spans(self) -> None:
        """Hand over the last spans; a collector that does not answer delays the end a little."""
        from app.api.tracing import flush

        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(in_daemon_thread(flush), FLUSH_SPANS_S)

    async def stop(self, listening: Sequence["asyncio.Task[None]"]) -> None:
        """End the listeners, which tell what still runs so, within a second; then the engine.

        The other way round vLLM would end the streams as if their answers were whole.
        """
        for listener in self.listeners:
            listener.stop()
        await asyncio.gather(*listening, return_exceptions=True)
        if self.shared_quota is not None:
            await self.shared_quota.close()
        if self.settings.tracing.otlp_endpoint is not None:
            await self.flush_spans()
        if self.resources.engine is not None and not self.is_dead():
            await asyncio.to_thread(self.resources.engine.stop, ENGINE_STOP_S)
