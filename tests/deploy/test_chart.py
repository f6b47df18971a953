"""The Helm chart: installed by the real Helm library for every situation in ci/, then judged."""

import copy
import json
import re
import subprocess
import sys
from typing import Any

import pytest
import yaml

from tests.deploy import toolbox
from tests.deploy.chart import CHART, KEYS, KUBERNETES, ROOT, SITUATIONS, install, pods_of
from tests.deploy.chart import situations as installed
from tests.deploy.pod_policy import violations

CUSTOM = {"monitoring.coreos.com", "gateway.networking.k8s.io", "inference.networking.k8s.io"}
CUSTOM |= {"keda.sh", "leaderworkerset.x-k8s.io"}
situation = pytest.mark.parametrize("name", SITUATIONS)


def drain_of(name: str) -> int:
    return int(yaml.safe_load(installed()[name].config)["server"]["drain_timeout_s"])


@situation
def test_helm_lints_and_installs_it(name: str) -> None:
    assert not installed()[name].error
    assert "v1/models" in installed()[name].notes


def test_there_are_at_least_eight_situations_and_one_has_everything() -> None:
    assert len(SITUATIONS) >= 8
    kinds = {item["kind"] for release in installed().values() for item in release.objects}
    everything = {item["kind"] for item in installed()["everything"].objects}
    assert kinds - everything == {"HorizontalPodAutoscaler", "LeaderWorkerSet"}  # one excludes one


@situation
def test_every_object_keeps_to_the_schemas_of_three_kubernetes_versions(name: str) -> None:
    release = installed()[name]
    items = [*release.objects, *release.hooks]
    known = [item for item in items if item["apiVersion"].split("/")[0] not in CUSTOM]
    problems = toolbox.run("check_kubernetes.py", {"versions": KUBERNETES, "objects": known})
    assert problems == []


def test_pods_of_custom_resources_keep_to_the_pod_schema() -> None:
    template = installed()["multi-node"].one("LeaderWorkerSet")["spec"]["leaderWorkerTemplate"]
    pods = [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": role}, "spec": spec}
        for role in ("leader", "worker")
        for spec in [template[f"{role}Template"]["spec"]]
    ]
    request = {"versions": KUBERNETES, "objects": pods}
    assert toolbox.run("check_kubernetes.py", request) == []


def test_the_schema_check_finds_an_unknown_field() -> None:
    service = copy.deepcopy(installed()["minimal"].one("Service", "-management"))
    service["spec"]["selectr"] = {}
    request = {"versions": KUBERNETES[-1:], "objects": [service]}
    (problem,) = toolbox.run("check_kubernetes.py", request)
    assert "selectr" in problem


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


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no keys": ({}, "there is no default key"),
    "an unknown value": ({**KEYS, "replica": 2}, "replica"),
    "an unknown nested value": ({**KEYS, "gpu": {"cuont": 1}}, "cuont"),
    "a wrong type": ({**KEYS, "replicas": "two"}, "replicas"),
    "the latest tag": ({**KEYS, "image": {"tag": "latest"}}, "/image/tag"),
    "a plain key": ({"keys": {"entries": [{"name": "a", "sha256": "sk-1"}]}}, "sha256"),
    "a port of the chart's": ({**KEYS, "config": {"server": {"port": 1}}}, "/config/server/port"),
    "a hub token in plain": ({**KEYS, "env": {"HF_TOKEN": "hf_x"}}, "/env/HF_TOKEN"),
    "no memory limit": ({**KEYS, "resources": {"limits": {"memory": None}}}, "memory"),
    "a cache for one": ({**KEYS, "replicas": 2}, "ReadWriteMany"),
    "two sources of a model": (
        {**KEYS, "model": {"claim": "c", "fetch": {"enabled": True, "repository": "a/b"}}},
        "model.fetch.enabled off",
    ),
    "nothing to fetch": ({**KEYS, "model": {"fetch": {"enabled": True}}}, "which model"),
    "a route to nowhere": ({**KEYS, "httpRoute": {"enabled": True}}, "which Gateway"),
    "a pool without picker": ({**KEYS, "inferencePool": {"enabled": True}}, "endpointPicker.name"),
}


def test_values_that_make_no_sense_are_refused_with_their_name() -> None:
    releases = install(*(values for values, _ in REFUSED.values()))
    for release, (name, (_, message)) in zip(releases, REFUSED.items(), strict=True):
        assert message in release.error, f"{name}: {release.error or 'installed'}"


def test_the_schema_describes_every_value_and_closes_every_object() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def compare(rule: dict[str, Any], tree: dict[str, Any], path: str) -> None:
        assert rule.get("additionalProperties") is False, path
        for key, value in tree.items():
            inner = rule["properties"][key]
            if isinstance(value, dict) and "properties" in inner and key != "config":
                compare(inner, value, f"{path}.{key}")

    compare(schema, values, "values")
    assert set(schema["properties"]) - set(values) == {"global"}  # Helm adds it by itself


def test_the_table_of_values_is_fresh() -> None:
    command = [sys.executable, str(ROOT / "deploy/helm/value_table.py"), "--check"]
    assert subprocess.run(command, check=False).returncode == 0, "run deploy/helm/value_table.py"


def test_the_charts_versions_are_the_projects() -> None:
    version = re.search(r'^version = "(\S+)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert version and chart["version"] == chart["appVersion"] == version[1]


def gateway_container(name: str, kind: str = "Deployment") -> dict[str, Any]:
    spec = installed()[name].one(kind)["spec"]
    template = (
        spec["template"] if kind == "Deployment" else spec["leaderWorkerTemplate"]["leaderTemplate"]
    )
    container: dict[str, Any] = template["spec"]["containers"][0]
    return container


def environment_of(name: str, kind: str = "Deployment") -> dict[str, Any]:
    return {entry["name"]: entry.get("value") for entry in gateway_container(name, kind)["env"]}


def test_gpus_become_a_resource_and_tensor_parallelism() -> None:
    limits = gateway_container("a100-tp2")["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == 2
    assert yaml.safe_load(installed()["a100-tp2"].config)["engine"]["tensor_parallel_size"] == 2
    assert "nvidia.com/gpu" not in gateway_container("cpu")["resources"]["limits"]
    assert gateway_container("cpu")["image"].endswith("-cpu")


def test_an_air_gapped_release_asks_nothing_of_the_hub() -> None:
    release = installed()["air-gapped"]
    assert environment_of("air-gapped")["HF_HUB_OFFLINE"] == "1"
    assert yaml.safe_load(release.config)["model"] == {"path": "/model"}
    ports = [
        port["port"]
        for rule in release.one("NetworkPolicy")["spec"]["egress"]
        for port in rule.get("ports", [])
    ]
    assert set(ports) == {53}


def test_a_fetched_model_is_fetched_by_the_init_container_alone() -> None:
    pod = installed()["everything"].one("Deployment")["spec"]["template"]["spec"]
    (fetch,) = pod["initContainers"]
    model = yaml.safe_load(installed()["everything"].config)["model"]
    assert fetch["command"] == ["hf", "download", model["path"], "--revision", model["revision"]]
    assert [entry["name"] for entry in fetch["env"]] == ["HF_TOKEN"]
    assert environment_of("everything")["HF_HUB_OFFLINE"] == "1"
    assert "HF_TOKEN" not in environment_of("everything")


def test_usage_records_go_to_their_own_claim() -> None:
    pod = installed()["everything"].one("Deployment")["spec"]["template"]["spec"]
    directory = yaml.safe_load(installed()["everything"].config)["usage"]["directory"]
    mounts = {m["mountPath"]: m["name"] for m in gateway_container("everything")["volumeMounts"]}
    claims = {
        volume["name"]: volume["persistentVolumeClaim"]["claimName"]
        for volume in pod["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert claims[mounts[directory]] == "usage-records"
    assert "usage" not in yaml.safe_load(installed()["minimal"].config)


def test_the_apis_service_does_not_lead_to_the_management_port() -> None:
    release = installed()["everything"]
    api, management = release.one("Service", "models"), release.one("Service", "-management")
    assert [port["targetPort"] for port in api["spec"]["ports"]] == ["api"]
    labels = release.one("ServiceMonitor")["spec"]["selector"]["matchLabels"]
    assert labels.items() <= management["metadata"]["labels"].items()
    assert not labels.items() <= api["metadata"]["labels"].items()


def test_every_selector_finds_the_gateways_pods() -> None:
    release = installed()["everything"]
    labels = release.one("Deployment")["spec"]["template"]["metadata"]["labels"]
    selectors = [service["spec"]["selector"] for service in release.of_kind("Service")]
    for kind in ("Deployment", "PodDisruptionBudget", "InferencePool"):
        selectors.append(release.one(kind)["spec"]["selector"]["matchLabels"])
    selectors.append(release.one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"])
    for selector in selectors:
        assert selector.items() <= labels.items()


def test_the_route_leads_to_the_pool_where_there_is_one() -> None:
    (rule,) = installed()["everything"].one("HTTPRoute")["spec"]["rules"]
    assert rule["backendRefs"] == [
        {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "models"}
    ]
    pool = installed()["everything"].one("InferencePool")
    assert pool["apiVersion"] == "inference.networking.k8s.io/v1"
    assert pool["spec"]["targetPorts"] == [{"number": 8000}]
    assert pool["spec"]["endpointPickerRef"]["name"] == "models-picker"


def test_keda_asks_for_series_of_this_release_alone() -> None:
    spec = installed()["autoscaled"].one("ScaledObject")["spec"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (2, 8)
    assert spec["scaleTargetRef"] == {
        "name": installed()["autoscaled"].one("Deployment")["metadata"]["name"]
    }
    for trigger in spec["triggers"]:
        assert 'service="models-w8a8-gateway-management"' in trigger["metadata"]["query"]
        assert int(trigger["metadata"]["threshold"]) > 0


def test_the_nodes_of_a_group_agree_on_their_shape() -> None:
    worker = installed()["multi-node"].one("LeaderWorkerSet")["spec"]["leaderWorkerTemplate"]
    command = worker["workerTemplate"]["spec"]["containers"][0]["command"]
    extra = environment_of("multi-node", "LeaderWorkerSet")["EXTRA_ARGS"].split()
    for option in ("--nnodes", "--pipeline-parallel-size", "--master-addr"):
        assert command[command.index(option) + 1] == extra[extra.index(option) + 1]
    assert worker["size"] == 2
    assert command[command.index("--tensor-parallel-size") + 1] == "8"


def test_a_changed_setting_rolls_the_pods_and_a_changed_key_does_not() -> None:
    """The gateway follows its key file; its settings it reads once."""
    other = {"entries": [{"name": "b", "sha256": "0" * 64}]}
    changed: tuple[dict[str, Any], ...] = ({}, {"drainSeconds": 60}, {"keys": other})
    releases = install(*(SITUATIONS["cpu"] | change for change in changed))
    same, settings, keys = (
        release.one("Deployment")["spec"]["template"]["metadata"]["annotations"]
        for release in releases
    )
    assert settings != same
    assert keys == same
