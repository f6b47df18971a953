"""The Helm chart: installed by the real Helm library for every situation in ci/, then judged."""

import copy
import re
from functools import cache
from typing import Any

import pytest
import yaml

from tests.deploy import toolbox
from tests.deploy.chart import CHART, KUBERNETES, ROOT, SITUATIONS, is_custom, pods_of
from tests.deploy.chart import situations as installed
from tests.deploy.pod_policy import violations

situation = pytest.mark.parametrize("name", SITUATIONS)


def drain_of(name: str) -> int:
    return int(yaml.safe_load(installed()[name].config)["server"]["drain_timeout_s"])


@situation
def test_helm_lints_and_installs_it(name: str) -> None:
    assert installed()[name].lint == ()
    assert not installed()[name].error
    assert "v1/models" in installed()[name].notes


def test_there_are_at_least_eight_situations_and_one_has_everything() -> None:
    assert len(SITUATIONS) >= 8
    kinds = {item["kind"] for release in installed().values() for item in release.objects}
    everything = {item["kind"] for item in installed()["everything"].objects}
    assert kinds - everything == {"HorizontalPodAutoscaler", "LeaderWorkerSet"}  # one excludes one


@situation
def test_every_object_keeps_to_the_schemas_of_three_kubernetes_versions(name: str) -> None:
    assert schema_problems()[name] == []


@cache
def schema_problems() -> dict[str, list[str]]:
    """What Kubernetes' schemas say of each situation; they are read once for all."""
    known = {
        name: [item for item in (*release.objects, *release.hooks) if not is_custom(item)]
        for name, release in installed().items()
    }
    broken = copy.deepcopy(installed()["minimal"].one("Service", "-management"))
    broken["spec"]["selectr"] = {}
    request = {"versions": KUBERNETES, "objects": known | {"broken": [broken], "group": members()}}
    found: dict[str, list[str]] = toolbox.run("check_kubernetes.py", request)
    return found


def members() -> list[dict[str, Any]]:
    """The pods of a multi-node group, which no schema of Kubernetes sees inside their resource."""
    template = installed()["multi-node"].one("LeaderWorkerSet")["spec"]["leaderWorkerTemplate"]
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": role},
            "spec": template[f"{role}Template"]["spec"],
        }
        for role in ("leader", "worker")
    ]


def test_pods_of_a_multi_node_group_keep_to_the_pod_schema() -> None:
    assert schema_problems()["group"] == []


def test_the_schema_check_finds_an_unknown_field_in_each_version() -> None:
    problems = schema_problems()["broken"]
    assert len(problems) == len(KUBERNETES)
    assert all("selectr" in problem for problem in problems)


@situation
def test_every_pod_keeps_to_the_policy(name: str) -> None:
    for pod_name, pod in pods_of(installed()[name]).items():
        assert violations(pod, drain_of(name)) == [], pod_name


BREACHES: list[tuple[str, Any]] = [
    ("hostNetwork is on", lambda p: p.update(hostNetwork=True)),
    ("a hostPath volume", lambda p: p["volumes"].append({"name": "x", "hostPath": {}})),
    ("a service account token is mounted", lambda p: p.pop("automountServiceAccountToken")),
    ("may run as root", lambda p: p["securityContext"].update(runAsUser=0)),
    ("no seccomp profile", lambda p: p["securityContext"].pop("seccompProfile")),
    (
        "gateway: image a:latest is not pinned",
        lambda p: p["containers"][0].update(image="a:latest"),
    ),
    (
        "gateway: may gain privileges",
        lambda p: p["containers"][0]["securityContext"].update(privileged=True),
    ),
    (
        "gateway: keeps capabilities",
        lambda p: p["containers"][0]["securityContext"].pop("capabilities"),
    ),
    ("gateway: memory has no limit", lambda p: p["containers"][0]["resources"].pop("limits")),
    ("a probe is missing", lambda p: p["containers"][0].pop("readinessProbe")),
    ("is killed before it has drained", lambda p: p.update(terminationGracePeriodSeconds=30)),
]


@pytest.mark.parametrize(("message", "breach"), BREACHES, ids=[name for name, _ in BREACHES])
def test_the_policy_notices_a_breach(message: str, breach: Any) -> None:
    pod = copy.deepcopy(installed()["minimal"].one("Deployment")["spec"]["template"]["spec"])
    breach(pod)
    assert message in violations(pod, drain_of("minimal"))


def test_the_charts_versions_are_the_projects() -> None:
    version = re.search(r'^version = "(\S+)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert version and chart["version"] == chart["appVersion"] == version[1]
