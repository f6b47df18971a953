"""Custom resources of the chart, against the schemas of those who define them."""

import copy
from functools import cache
from typing import Any

import pytest

from tests.deploy import toolbox
from tests.deploy.chart import Manifest, is_custom
from tests.deploy.chart import situations as installed

KINDS = {
    "HTTPRoute",
    "InferencePool",
    "LeaderWorkerSet",
    "PrometheusRule",
    "ScaledObject",
    "ServiceMonitor",
}


@cache
def resources() -> dict[str, Manifest]:
    """Every custom resource of every situation, by a name for messages."""
    return {
        f"{name}: {item['kind']}": item
        for name, release in installed().items()
        for item in release.objects
        if is_custom(item)
    }


BREACHES: list[tuple[str, str, Any]] = [
    ("everything: HTTPRoute", "timeout", lambda s: s["rules"][0].update(timeout="0s")),
    ("everything: InferencePool", "targetPorts", lambda s: s.pop("targetPorts")),
    ("multi-node: LeaderWorkerSet", "size", lambda s: s["leaderWorkerTemplate"].update(size="2")),
    ("everything: PrometheusRule", "groups.1.rules.0.for", lambda s: rule(s).update({"for": 5})),
    ("everything: ScaledObject", "minReplicas", lambda s: s.update(minReplicas=1)),
    ("everything: ServiceMonitor", "scrape", lambda s: s["endpoints"][0].update(scrape="15s")),
]


def rule(spec: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = spec["groups"][1]["rules"][0]
    return found


@cache
def checked() -> dict[str, list[str]]:
    """What the schemas say of each resource, and of one of each kind with a breach."""
    items = dict(resources())
    for name, _, breach in BREACHES:
        items[f"broken {name}"] = copy.deepcopy(items[name])
        breach(items[f"broken {name}"]["spec"])
    found = toolbox.run("check_custom.py", list(items.values()))
    return dict(zip(items, found, strict=True))


def test_custom_resources_keep_to_their_schemas() -> None:
    found = {name: problems for name, problems in checked().items() if "broken" not in name}
    assert {name.rpartition(" ")[2] for name in found} == KINDS
    assert {name: problems for name, problems in found.items() if problems} == {}


@pytest.mark.parametrize(("name", "word"), [(name, word) for name, word, _ in BREACHES])
def test_a_schema_notices_a_breach(name: str, word: str) -> None:
    assert any(word in problem for problem in checked()[f"broken {name}"])
