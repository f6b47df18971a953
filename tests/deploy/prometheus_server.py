"""A real Prometheus with the project's rules, scraping one gateway every second."""

import contextlib
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.deploy.prometheus_tools import find
from tests.deploy.promql import RULES
from tests.integration.gateway_process import free_port

START_TIMEOUT_S = 60


@dataclass(frozen=True)
class PrometheusServer:
    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The result of an instant query: one entry for each series."""
        return self._ask("query", query=expression)

    def query_range(self, expression: str, start: float, end: float, step_s: float) -> Any:
        return self._ask("query_range", query=expression, start=start, end=end, step=step_s)

    def _ask(self, kind: str, **parameters: Any) -> list[dict[str, Any]]:
        answer = httpx.get(f"{self.url}/api/v1/{kind}", params=parameters, timeout=30)
        result: list[dict[str, Any]] = answer.raise_for_status().json()["data"]["result"]
        return result

    def wait_for(self, expression: str, timeout_s: float = START_TIMEOUT_S) -> list[dict[str, Any]]:
        """The result of the expression, once it has one: after a scrape that came too late, as on
        a busy machine, nothing has until the next."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError):  # it answers 503 while it starts
                if found := self.query(expression):
                    return found
            time.sleep(0.2)
        raise AssertionError(f"nothing for {expression}")


@contextlib.contextmanager
def running_prometheus(
    folder: Path, target: str, interval_s: int = 1
) -> Iterator[PrometheusServer]:
    """`target`: host and port of a management port."""
    (folder / "rules.yaml").write_text(RULES.read_text())
    job = {"job_name": "w8a8-gateway", "static_configs": [{"targets": [target]}]}
    seconds = f"{interval_s}s"
    config = {
        "global": {
            "scrape_interval": seconds,
            "scrape_timeout": seconds,
            "evaluation_interval": seconds,
        },
        "rule_files": ["rules.yaml"],
        "scrape_configs": [job],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [
        find("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield PrometheusServer(f"http://{address}")
    finally:
        process.terminate()
        process.wait(120)
