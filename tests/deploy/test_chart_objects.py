"""What the chart makes of its values, object by object."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from app.engine.offline import WORKER_EXTENSION
from tests.deploy.chart import SITUATIONS, install
from tests.deploy.chart import situations as installed
from tests.deploy.prometheus_tools import promtool


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
        query = trigger["metadata"]["query"]
        assert 'service="models-w8a8-gateway-management"' in query
        assert query.count("{") == query.count('{namespace="models",service="')
        assert int(trigger["metadata"]["threshold"]) > 0


def test_an_autoscaler_looks_at_both_queues_and_at_what_is_in_hand() -> None:
    keda = installed()["autoscaled"].one("ScaledObject")["spec"]["triggers"]
    in_hand, waiting = (trigger["metadata"]["query"] for trigger in keda)
    assert "gateway_requests_in_flight" in in_hand
    assert "gateway_queue_depth" in waiting and "vllm:num_requests_waiting" in waiting
    hpa = installed()["autoscaled-hpa"].one("HorizontalPodAutoscaler")["spec"]["metrics"]
    names = [metric["pods"]["metric"]["name"] for metric in hpa]
    assert names == ["gateway_requests_in_flight", "gateway_waiting_requests"]


@pytest.mark.parametrize("name", ["autoscaled", "everything"])
def test_the_queries_of_keda_parse(name: str, tmp_path: Path) -> None:
    triggers = installed()[name].one("ScaledObject")["spec"]["triggers"]
    queries = [trigger["metadata"]["query"] for trigger in triggers]
    listed = [{"record": f"keda:{n}", "expr": query} for n, query in enumerate(queries)]
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "keda", "rules": listed}]}))
    done = promtool("check", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_url_of_redis_comes_from_its_secret_and_leads_out() -> None:
    (entry,) = (
        entry
        for entry in gateway_container("everything")["env"]
        if entry["name"] == "GATEWAY_LIMITS_REDIS_URL"
    )
    assert entry["valueFrom"]["secretKeyRef"] == {"name": "limits-redis", "key": "redis-url"}
    assert "redis" not in installed()["everything"].config
    egress = installed()["everything"].one("NetworkPolicy")["spec"]["egress"]
    assert {
        "ports": [{"port": 6380, "protocol": "TCP"}],
        "to": [{"podSelector": {"matchLabels": {"app": "redis"}}}],
    } in egress
    assert [4318] in [[port["port"] for port in rule.get("ports", [])] for rule in egress]


def test_an_update_goes_one_pod_at_a_time_where_the_cache_is_for_one() -> None:
    rolling = {
        name: installed()[name].one("Deployment")["spec"]["strategy"]["rollingUpdate"]
        for name in ("minimal", "autoscaled")
    }
    assert rolling["minimal"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert rolling["autoscaled"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_the_nodes_of_a_group_agree_on_their_shape() -> None:
    worker = installed()["multi-node"].one("LeaderWorkerSet")["spec"]["leaderWorkerTemplate"]
    command = worker["workerTemplate"]["spec"]["containers"][0]["command"]
    extra = environment_of("multi-node", "LeaderWorkerSet")["EXTRA_ARGS"].split()
    for option in ("--nnodes", "--pipeline-parallel-size", "--master-addr"):
        assert command[command.index(option) + 1] == extra[extra.index(option) + 1]
    assert command[command.index("--worker-extension-cls") + 1] == WORKER_EXTENSION
    assert worker["size"] == 4
    assert command[command.index("--tensor-parallel-size") + 1] == "8"


def test_a_group_keeps_the_users_own_arguments_and_variables() -> None:
    arguments = environment_of("multi-node", "LeaderWorkerSet")["EXTRA_ARGS"]
    assert arguments.endswith(SITUATIONS["multi-node"]["config"]["engine"]["extra_args"])
    worker = installed()["multi-node"].one("LeaderWorkerSet")["spec"]["leaderWorkerTemplate"]
    entries = worker["workerTemplate"]["spec"]["containers"][0]["env"]
    assert {"name": "NCCL_SOCKET_IFNAME", "value": "eth0"} in entries


def test_a_new_version_of_the_chart_alone_rolls_no_pod() -> None:
    template = installed()["minimal"].one("Deployment")["spec"]["template"]
    assert not {"helm.sh/chart", "app.kubernetes.io/version"} & set(template["metadata"]["labels"])


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
