"""Every PromQL expression that the project ships, and the series it names."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploy.monitoring.dashboards import DASHBOARDS

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "helm" / "w8a8-gateway" / "files" / "rules.yaml"
SERIES = re.compile(r"\b(?:gateway[_:][\w:]+|vllm:\w+|process_\w+|up)\b")
# What Grafana fills in before it asks.
VARIABLES = {
    "$__rate_interval": "1m",
    "$__range": "3h",
    "$namespace": ".*",
    "$job": ".*",
}


@dataclass(frozen=True)
class Expression:
    """`where` is for messages: the rule's name, or dashboard and panel."""

    where: str
    text: str

    @property
    def series(self) -> set[str]:
        bare = re.sub(r'"[^"]*"', '""', self.text)
        return set(SERIES.findall(bare))


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> list[str]:
    return [rule["alert"] for rule in rules() if "alert" in rule]


def rule_expressions() -> list[Expression]:
    return [Expression(rule.get("alert") or rule["record"], rule["expr"]) for rule in rules()]


def panel_expressions() -> list[Expression]:
    return [
        Expression(f"{dashboard.uid}: {panel.title}", fill(text))
        for dashboard in DASHBOARDS
        for panel in dashboard.panels
        for text in panel.expressions()
    ]


def fill(text: str) -> str:
    for name, value in VARIABLES.items():
        text = text.replace(name, value)
    return text
