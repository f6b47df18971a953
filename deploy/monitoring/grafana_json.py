"""What a dashboard is to us, and the JSON that Grafana wants of it."""

from dataclasses import dataclass, field
from typing import Any

WIDTH = 24  # of Grafana's grid
HEIGHT = 8
HERE = 'namespace=~"$namespace",job=~"$job"'


@dataclass(frozen=True)
class Panel:
    """`queries`: PromQL by legend. SELECT in it stands for the labels of the chosen release."""

    title: str
    queries: dict[str, str]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    meaning: str = ""
    thresholds: dict[float, str] = field(default_factory=dict)

    def expressions(self) -> list[str]:
        return [query.replace("SELECT", HERE) for query in self.queries.values()]


@dataclass(frozen=True)
class Dashboard:
    uid: str
    title: str
    panels: tuple[Panel, ...]


def render(dashboard: Dashboard) -> dict[str, Any]:
    panels: list[dict[str, Any]] = []
    x = y = 0
    for number, panel in enumerate(dashboard.panels, start=1):
        if x + panel.width > WIDTH:
            x, y = 0, y + HEIGHT
        place = {"x": x, "y": y, "w": panel.width, "h": HEIGHT}
        panels.append(render_panel(panel, number) | {"gridPos": place})
        x += panel.width
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["w8a8-gateway"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "",
        "templating": {"list": VARIABLES},
        "panels": panels,
    }


SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


VARIABLES = [
    {"name": "datasource", "type": "datasource", "query": "prometheus"},
    variable("namespace", "label_values(gateway_state, namespace)"),
    variable("job", 'label_values(gateway_state{namespace=~"$namespace"}, job)'),
]


def render_panel(panel: Panel, number: int) -> dict[str, Any]:
    steps = [{"value": value or None, "color": c} for value, c in panel.thresholds.items()]
    defaults: dict[str, Any] = {"unit": panel.unit}
    if steps:
        defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    targets = [
        {
            "refId": chr(ord("A") + index),
            "expr": expression,
            "legendFormat": legend or "__auto",
            "datasource": SOURCE,
            "instant": panel.kind in ("stat", "table"),
            "format": "table" if panel.kind == "table" else "time_series",
        }
        for index, (legend, expression) in enumerate(
            zip(panel.queries, panel.expressions(), strict=True)
        )
    ]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.meaning,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {"legend": {"displayMode": "list"}} if panel.kind == "timeseries" else {},
        "targets": targets,
    }
