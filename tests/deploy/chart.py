"""The chart as installed by the real Helm library, once for each file in ci/."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.deploy import toolbox

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "w8a8-gateway"
SITUATIONS = {
    path.name.removesuffix("-values.yaml"): yaml.safe_load(path.read_text())
    for path in sorted((CHART / "ci").glob("*-values.yaml"))
}
KUBERNETES = ("1.35.0", "1.36.0", "1.37.0")
CUSTOM_GROUPS = {
    "gateway.networking.k8s.io",
    "inference.networking.k8s.io",
    "keda.sh",
    "leaderworkerset.x-k8s.io",
    "monitoring.coreos.com",
}
KEYS = {"keys": {"existingSecret": "gateway-keys"}}

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Release:
    """`error` is Helm's refusal; without one, `objects` were created and `hooks` are its tests.
    `lint` has the files that Helm's linter complains of."""

    name: str
    lint: tuple[str, ...] = ()
    error: str = ""
    objects: tuple[Manifest, ...] = ()
    hooks: tuple[Manifest, ...] = ()
    notes: str = ""

    def of_kind(self, kind: str) -> list[Manifest]:
        return [item for item in self.objects if item["kind"] == kind]

    def one(self, kind: str, suffix: str = "") -> Manifest:
        (found,) = (o for o in self.of_kind(kind) if o["metadata"]["name"].endswith(suffix))
        return found

    @property
    def config(self) -> str:
        """The application's configuration file."""
        (text,) = (o["data"]["gateway.yaml"] for o in self.of_kind("ConfigMap") if has_config(o))
        return str(text)


def has_config(item: Manifest) -> bool:
    return "gateway.yaml" in item["data"]


def is_custom(item: Manifest) -> bool:
    return str(item["apiVersion"]).partition("/")[0] in CUSTOM_GROUPS


def install(*values: Manifest) -> list[Release]:
    releases = [{"name": "models", "values": tree} for tree in values]
    request = {"chart": str(CHART), "kubernetes": KUBERNETES[-1], "releases": releases}
    answers = toolbox.run("install_chart.py", request)
    return [Release("models", tuple(answer.pop("lint")), **answer) for answer in answers]


@cache
def situations() -> dict[str, Release]:
    return dict(zip(SITUATIONS, install(*SITUATIONS.values()), strict=True))


def pods_of(release: Release) -> dict[str, Manifest]:
    """Every pod template of a release, by a name for messages."""
    pods = {}
    for item in (*release.objects, *release.hooks):
        name = f"{item['kind']}/{item['metadata']['name']}"
        if item["kind"] == "Deployment":
            pods[name] = item["spec"]["template"]["spec"]
        elif item["kind"] == "LeaderWorkerSet":
            for role in ("leader", "worker"):
                template = item["spec"]["leaderWorkerTemplate"][f"{role}Template"]
                pods[f"{name}/{role}"] = template["spec"]
        elif item["kind"] == "Pod":
            pods[name] = item["spec"]
    return pods
