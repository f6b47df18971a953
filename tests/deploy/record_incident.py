"""Record an overload and the death of an engine as series for promtool. Takes 25 minutes.

    python -m tests.deploy.record_incident

A real gateway with vLLM's own scheduler on the simulated device (so that two cores are enough)
is asked a little, then four times what it can do, then its engine is killed with SIGKILL; after
three minutes of nothing it is started again under the same address. A real Prometheus scrapes it
every 15 s. What the rules read of that becomes deploy/monitoring/incident_test.yaml, and the alerts
that this Prometheus had firing at the time are the expected ones.
"""

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from tests.deploy.prometheus_server import PrometheusServer, running_prometheus
from tests.deploy.promql import RULES, rule_expressions, rules
from tests.integration.gateway_process import SECRET, command, environment, free_ports, write_keys

STEP_S = 15
OUTPUT = RULES.parents[3] / "monitoring" / "incident_test.yaml"
DEVICE = '{"step_ms": 40, "answer_tokens": 200}'
CALM_S, OVERLOAD_S, DEAD_S, AFTER_S = 120, 1080, 180, 150
CALM_CLIENTS, OVERLOAD_CLIENTS, NUM_SEQS = 2, 32, 8
CHAT = {
    "model": "bundled",
    "messages": [{"role": "user", "content": "What is 12 + 5?"}],
    "stream": True,
    "max_tokens": 200,
}
FIRING = 'count by (alertname) (ALERTS{alertstate="firing"})'
SHORTEST_STRETCH = 5
HEADER = """\
# An overload and the death of an engine as they were recorded, and the alerts that fired. Made by
# `python -m tests.deploy.record_incident`, which says how: the gateway and vLLM's scheduler are
# real, the device below them is simulated, the engine was really killed.
"""


class Gateway:
    """One gateway that can be started again under the address it had."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.management_port = free_ports(2)
        self.keys = write_keys(folder / "keys.yaml")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        settings = (
            f"server.port={self.port}",
            f"server.management_port={self.management_port}",
            f"auth.keys_file={self.keys}",
            f"engine.max_num_seqs={NUM_SEQS}",
            "model.allow_unquantized=true",  # no kernel runs on the simulated device
            "engine.extra_args=--distributed-executor-backend "
            "app.engine.simulated.SimulatedExecutor",
        )
        words = [word for setting in settings for word in ("--set", setting)]
        with (self.folder / "gateway.log").open("ab") as log:
            self.process = subprocess.Popen(
                command("serve", "--profile", "bundled", *words),
                env=environment(SIMULATED_DEVICE=DEVICE),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            yield
        finally:
            self.process.terminate()
            self.process.wait(60)

    def kill_engine(self) -> None:
        assert self.process
        children = psutil.Process(self.process.pid).children(recursive=True)
        (engine,) = (c for c in children if "EngineCore" in " ".join(c.cmdline()))
        os.kill(engine.pid, signal.SIGKILL)
        print("gateway ended with", self.process.wait(30))


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        gateway = Gateway(folder)
        target = f"127.0.0.1:{gateway.management_port}"
        with running_prometheus(folder, target, STEP_S) as prometheus:
            start = record(gateway, prometheus)
            OUTPUT.write_text(HEADER + render(prometheus, start, time.time()))
    print(f"wrote {OUTPUT.name}")


def record(gateway: Gateway, prometheus: PrometheusServer) -> float:
    """Play the incident; the time of its first scrape."""
    with gateway.running():
        prometheus.wait_for('gateway_state{state="ready"} == 1', 300)
        start = time.time()
        asyncio.run(ask(gateway, CALM_CLIENTS, CALM_S))
        print("overload")
        asyncio.run(ask(gateway, OVERLOAD_CLIENTS, OVERLOAD_S, kill=True))
    time.sleep(DEAD_S)
    with gateway.running():
        prometheus.wait_for('gateway_state{state="ready"} == 1', 300)
        asyncio.run(ask(gateway, CALM_CLIENTS, AFTER_S))
    return start


async def ask(gateway: Gateway, num_clients: int, duration_s: float, kill: bool = False) -> None:
    """Clients that ask again as soon as they are answered; in the end the engine may be killed."""
    headers = {"authorization": f"Bearer {SECRET}"}
    async with httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=300) as client:
        tasks = [asyncio.create_task(ask_for_ever(client)) for _ in range(num_clients)]
        await asyncio.sleep(duration_s)
        if kill:
            await asyncio.to_thread(gateway.kill_engine)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def ask_for_ever(client: httpx.AsyncClient) -> None:
    while True:
        try:
            await client.post("/v1/chat/completions", json=CHAT)
        except httpx.TransportError:
            await asyncio.sleep(1)


def render(prometheus: PrometheusServer, start: float, end: float) -> str:
    names = {name for e in rule_expressions() for name in e.series} - {
        rule["record"] for rule in rules() if "record" in rule
    }
    steps = int((end - start) // STEP_S)
    series = [
        {"series": notation(entry["metric"]), "values": values_of(entry, start, steps)}
        for name in sorted(names)
        for entry in prometheus.query_range(selector(name), start, end, STEP_S)
    ]
    test = {
        "name": "an overload, then the engine is killed, then the gateway starts again",
        "interval": f"{STEP_S}s",
        "input_series": series,
        "promql_expr_test": expectations(prometheus, start, steps),
    }
    document = {
        "rule_files": ["../helm/w8a8-gateway/files/rules.yaml"],
        "evaluation_interval": f"{STEP_S}s",
        "tests": [test],
    }
    text: str = yaml.safe_dump(document, sort_keys=False, width=100_000)
    return text


def selector(name: str) -> str:
    """Of a histogram only the bucket that the rules read."""
    return f'{name}{{le="2.0"}}' if name.endswith("_bucket") else name


def notation(metric: dict[str, str]) -> str:
    labels = {k: v for k, v in metric.items() if k != "__name__"} | {"namespace": "recorded"}
    inner = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    return f"{metric['__name__']}{{{inner}}}"


def values_of(entry: Any, start: float, steps: int) -> str:
    """promtool's notation: a number for each step, `stale` where the series ends, `_` for none."""
    found = {round((when - start) / STEP_S): float(value) for when, value in entry["values"]}
    words = []
    for step in range(steps):
        if step in found:
            words.append(f"{found[step]:.10g}")
        else:
            words.append("stale" if step - 1 in found else "_")
    return " ".join(words)


def expectations(prometheus: PrometheusServer, start: float, steps: int) -> list[dict[str, Any]]:
    """What was firing in the real Prometheus, once for each stretch in which that was the same.

    In the middle of the stretch: at its ends a scrape's phase decides, which no replay repeats.
    """
    firing: list[set[str]] = [set() for _ in range(steps)]
    for entry in prometheus.query_range(FIRING, start, start + (steps - 1) * STEP_S, STEP_S):
        for when, _ in entry["values"]:
            firing[round((when - start) / STEP_S)].add(entry["metric"]["alertname"])
    expected, first = [], 0
    for _, stretch in itertools.groupby(firing):
        length = len(list(stretch))
        if length >= SHORTEST_STRETCH:
            middle = first + length // 2
            expected.append(expect(middle * STEP_S, sorted(firing[middle])))
        first += length
    return expected


def expect(when_s: int, alerts: list[str]) -> dict[str, Any]:
    samples = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in alerts]
    return {"expr": FIRING, "eval_time": f"{when_s}s", "exp_samples": samples}


if __name__ == "__main__":
    main()
