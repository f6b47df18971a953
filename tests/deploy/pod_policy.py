"""What a platform team asks of every pod, as one function from a pod to its violations."""

from collections.abc import Iterator
from typing import Any

Pod = dict[str, Any]

# Containers that serve HTTP and must be probed; init, test and headless engine containers do not.
PROBED = {"gateway"}


def violations(pod: Pod, drain_s: int) -> list[str]:
    containers = [*pod.get("initContainers", []), *pod["containers"]]
    found = [*check_pod(pod)]
    for container in containers:
        found += [f"{container['name']}: {problem}" for problem in check_container(container, pod)]
        if container["name"] in PROBED:
            found += check_serving(container, pod, drain_s)
    return found


def check_pod(pod: Pod) -> Iterator[str]:
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            yield f"{key} is on"
    if any("hostPath" in volume for volume in pod.get("volumes", [])):
        yield "a hostPath volume"
    if pod.get("automountServiceAccountToken") is not False:
        yield "a service account token is mounted"
    context = pod.get("securityContext", {})
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "no seccomp profile"
    if not context.get("runAsNonRoot") or context.get("runAsUser", 0) == 0:
        yield "may run as root"


def check_container(container: Pod, pod: Pod) -> Iterator[str]:
    image = container["image"].rpartition("/")[2]
    if "@sha256:" not in image and (":" not in image or image.endswith(":latest")):
        yield f"image {container['image']} is not pinned"
    context = container.get("securityContext", {})
    if context.get("privileged") or context.get("allowPrivilegeEscalation") is not False:
        yield "may gain privileges"
    if context.get("capabilities", {}).get("drop") != ["ALL"]:
        yield "keeps capabilities"
    if not context.get("readOnlyRootFilesystem"):
        yield "can write to its root file system"
    resources = container.get("resources", {})
    if not {"cpu", "memory"} <= set(resources.get("requests", {})):
        yield "requests are not set"
    if "memory" not in resources.get("limits", {}):
        yield "memory has no limit"
    if any("hostPort" in port for port in container.get("ports", [])):
        yield "takes a port of the node"


def check_serving(container: Pod, pod: Pod, drain_s: int) -> Iterator[str]:
    probes = [container.get(f"{kind}Probe") for kind in ("startup", "liveness", "readiness")]
    if not all(probes):
        yield "a probe is missing"
        return
    startup, liveness, readiness = (probe["httpGet"] for probe in probes if probe)
    if (startup["path"], liveness["path"], readiness["path"]) != ("/health", "/health", "/ready"):
        yield "a probe asks the wrong route"
    if {startup["port"], liveness["port"], readiness["port"]} != {"management"}:
        yield "a probe is not on the management port"
    sleep_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    if pod["terminationGracePeriodSeconds"] < sleep_s + drain_s + 30:
        yield "is killed before it has drained"
