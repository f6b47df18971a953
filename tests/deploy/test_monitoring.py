"""Rules and dashboards: they parse, they name series that exist, alerts fire when they should."""

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from app.api.metrics import Metrics
from deploy.monitoring.dashboards import FOLDER
from tests.deploy.prometheus_tools import promtool
from tests.deploy.promql import (
    ROOT,
    RULES,
    Expression,
    alerts,
    panel_expressions,
    rule_expressions,
    rules,
)

RULE_TESTS = sorted((ROOT / "deploy" / "monitoring").glob("*_test.yaml"))
SUFFIXES = ("_total", "_bucket", "_count", "_sum")
# From prometheus_client's own collector, and from Prometheus itself.
OTHERS = {
    "up",
    "process_start_time_seconds",
    "process_resident_memory_bytes",
    "process_cpu_seconds_total",
}


def our_series() -> set[str]:
    registry = CollectorRegistry()
    Metrics(registry)
    names = set()
    for family in registry.collect():
        names |= {family.name + suffix for suffix in suffixes_of(family.type)}
    return names


def suffixes_of(kind: str) -> tuple[str, ...]:
    return {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(kind, ("",))


def vllm_series() -> set[str]:
    """The names in vLLM's own source, with what a counter or histogram adds to them."""
    spec = find_spec("vllm")
    assert spec and spec.submodule_search_locations
    folder = Path(next(iter(spec.submodule_search_locations)))
    text = (folder / "v1" / "metrics" / "loggers.py").read_text()
    names = set(re.findall(r'"(vllm:\w+)"', text))
    return names | {name + suffix for name in names for suffix in SUFFIXES}


def recorded() -> set[str]:
    return {rule["record"] for rule in rules() if "record" in rule}


def test_promtool_finds_the_rules_right() -> None:
    done = promtool("check", "rules", str(RULES))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_alerts_fire_in_the_situations_that_they_are_for_and_in_no_other() -> None:
    done = promtool("test", "rules", *map(str, RULE_TESTS))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_fires_in_some_situation() -> None:
    text = "".join(path.read_text() for path in RULE_TESTS)
    assert [name for name in alerts() if f'"{name}"' not in text] == []


def test_an_alert_that_does_not_fire_fails_its_test(tmp_path: Path) -> None:
    """The unit tests are no formality: with one threshold moved they fail."""
    (tmp_path / "rules.yaml").write_text(RULES.read_text().replace("> 0.95", "> 0.99"))
    document = yaml.safe_load(RULE_TESTS[-1].read_text()) | {"rule_files": ["rules.yaml"]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(document))
    done = promtool("test", "rules", str(tmp_path / "test.yaml"))
    assert done.returncode != 0
    assert "GatewayKVCachePressure" in done.stdout + done.stderr


def test_every_alert_says_how_grave_it_is_and_what_happened() -> None:
    for rule in rules():
        if "alert" in rule:
            assert rule["labels"]["severity"] in {"critical", "warning", "info"}, rule
            assert rule["annotations"]["summary"]


def test_operations_has_a_chapter_for_every_alert_and_for_no_other() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    assert re.findall(r"^### (Gateway\w+)$", text, re.M) == alerts()


def test_every_dashboard_query_parses(tmp_path: Path) -> None:
    listed = [{"record": f"panel:{n}", "expr": e.text} for n, e in enumerate(panel_expressions())]
    path = tmp_path / "panels.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": listed}]}))
    done = promtool("check", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "expression", [*rule_expressions(), *panel_expressions()], ids=lambda e: e.where
)
def test_an_expression_names_series_that_are_exported(expression: Expression) -> None:
    assert expression.series
    unknown = expression.series - our_series() - vllm_series() - recorded() - OTHERS
    assert not unknown


def test_the_bucket_of_the_objective_exists() -> None:
    bounds = {
        sample.labels.get("le")
        for family in exported()
        for sample in family.samples
        if sample.name == "gateway_time_to_first_token_seconds_bucket"
    }
    wanted = set(re.findall(r'le="([^"]+)"', RULES.read_text()))
    assert wanted == {"2.0"}
    assert wanted <= bounds


def exported() -> list[Any]:
    registry = CollectorRegistry()
    Metrics(registry).requests.time_to_first_token.labels("/v1/chat/completions").observe(1)
    return list(registry.collect())


def test_the_dashboards_are_fresh() -> None:
    command = [sys.executable, "-m", "deploy.monitoring.dashboards", "--check"]
    done = subprocess.run(command, cwd=ROOT, check=False)
    assert done.returncode == 0, "run make deploy-files"


def test_dashboards_and_panels_have_names_of_their_own() -> None:
    boards = [json.loads(path.read_text()) for path in FOLDER.glob("*.json")]
    assert len({board["uid"] for board in boards}) == len(boards) == 4
    for board in boards:
        titles = [panel["title"] for panel in board["panels"]]
        assert len(set(titles)) == len(titles)
        for panel in board["panels"]:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24


def test_the_prometheus_of_compose_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "prometheus.yml").write_text(
        (ROOT / "deploy/monitoring/prometheus.yml").read_text()
    )
    (tmp_path / "rules.yaml").write_text(RULES.read_text())
    done = promtool("check", "config", str(tmp_path / "prometheus.yml"))
    assert done.returncode == 0, done.stdout + done.stderr
    (job,) = yaml.safe_load((tmp_path / "prometheus.yml").read_text())["scrape_configs"]
    assert f'up{{job="{job["job_name"]}"}}' in RULES.read_text()
