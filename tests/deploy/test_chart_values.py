"""The chart's values: what is refused, and that schema, table and application agree on the rest."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import yaml

from app.core.key_limits import LIMIT_NAMES
from app.settings.key_file import FIELDS as KEY_FIELDS
from app.settings.key_file import TENANT_FIELDS
from app.settings.layers import FIELDS
from deploy.helm.value_table import leaves
from tests.deploy.chart import CHART, KEYS, ROOT, SITUATIONS, install

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no keys": ({}, "there is no default key"),
    "keys in two places": (
        {"keys": {"existingSecret": "k", "tenants": {"a": {"weight": 2}}}},
        "would be ignored",
    ),
    "a limit that there is none": (
        {"keys": {"tenants": {"a": {"limits": {"tokens": 1}}}}},
        "/keys/tenants/a/limits",
    ),
    "a value taken out": ({**KEYS, "gpu": None}, "'gpu'"),
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
    "a setting that there is none": ({**KEYS, "config": {"engine": {"max_seqs": 1}}}, "max_seqs"),
    "a section that there is none": ({**KEYS, "config": {"enigne": {}}}, "enigne"),
    "a setting of a wrong type": (
        {**KEYS, "config": {"engine": {"max_num_seqs": "many"}}},
        "/config/engine/max_num_seqs",
    ),
    "a setting as a variable": ({**KEYS, "env": {"GATEWAY_LOG_LEVEL": "debug"}}, "/env"),
    "a number as a variable": ({**KEYS, "env": {"NCCL_DEBUG": 1}}, "/env/NCCL_DEBUG"),
    "a password of Redis in plain": (
        {**KEYS, "config": {"limits": {"redis_url": "redis://:x@y"}}},
        "/config/limits/redis_url",
    ),
    "a Redis that nobody may reach": (
        {**KEYS, "sharedLimits": {"redisSecret": "r"}},
        "networkPolicy.redis.peers",
    ),
    "a collector that nobody may reach": (
        {**KEYS, "config": {"tracing": {"otlp_endpoint": "http://c:4317"}}},
        "networkPolicy.tracing.peers",
    ),
    "a peer of no kind": ({**KEYS, "networkPolicy": {"clients": [{"pods": {}}]}}, "pods"),
    "an empty peer": ({**KEYS, "networkPolicy": {"monitoring": [{}]}}, "/networkPolicy/monitoring"),
    "an egress rule with a slip": (
        {**KEYS, "networkPolicy": {"extraEgress": [{"port": 1}]}},
        "/networkPolicy/extraEgress/0",
    ),
    "a monitor that cannot reach": (
        {**KEYS, "monitoring": {"serviceMonitor": {"enabled": True}}},
        "networkPolicy.monitoring",
    ),
    "an autoscaler without series": (
        {**KEYS, "cache": {"type": "emptyDir"}, "autoscaling": {"kind": "hpa"}},
        "networkPolicy.monitoring",
    ),
    "GPUs counted twice": (
        {**KEYS, "resources": {"limits": {"nvidia.com/gpu": "2"}}},
        "is set by gpu.count",
    ),
    "a spare pod and a cache for one": ({**KEYS, "maxSurge": 1}, "ReadWriteMany"),
    "fewest above most": (
        {
            **KEYS,
            "cache": {"type": "emptyDir"},
            "autoscaling": {"kind": "hpa", "minReplicas": 5, "maxReplicas": 4},
        },
        "autoscaling.minReplicas",
    ),
    "a route to nowhere": ({**KEYS, "httpRoute": {"enabled": True}}, "which Gateway"),
    "a pool without picker": ({**KEYS, "inferencePool": {"enabled": True}}, "endpointPicker.name"),
}


def test_values_that_make_no_sense_are_refused_with_their_name() -> None:
    releases = install(*(values for values, _ in REFUSED.values()))
    for release, (name, (_, message)) in zip(releases, REFUSED.items(), strict=True):
        assert message in release.error, f"{name}: {release.error or 'installed'}"
        # What the schema refuses, the linter finds too: it is no formality.
        assert ("values.yaml" in release.lint) == ("specifications of the schema" in release.error)


def schema() -> dict[str, Any]:
    tree: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
    return tree


# Where the user chooses names and values: labels and annotations, and what a parent chart shares.
MAPS = {"$defs.stringMap", "properties.global"}


def objects_in(rule: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every rule about an object, with its path in the schema."""
    if isinstance(rule, list):
        for number, inner in enumerate(rule):
            yield from objects_in(inner, f"{path}.{number}")
    elif isinstance(rule, dict):
        if rule.get("type") == "object":
            yield path, rule
        for key, inner in rule.items():
            yield from objects_in(inner, f"{path}.{key}".lstrip("."))


def test_every_object_of_the_schema_is_closed() -> None:
    found = list(objects_in(schema()))
    assert len(found) > 40
    for path, rule in found:
        if path not in MAPS:
            assert rule.get("additionalProperties") is False, path
    assert {path for path, _ in found} >= MAPS


def test_the_schema_describes_every_value_and_no_other() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def compare(rule: dict[str, Any], tree: dict[str, Any], path: str) -> None:
        assert set(rule["properties"]) == set(rule["required"]) == set(tree), path
        for key, value in tree.items():
            inner = rule["properties"][key]
            if isinstance(value, dict) and "properties" in inner and key != "config":
                compare(inner, value, f"{path}.{key}")

    rules = schema()
    assert rules["properties"].pop("global")  # Helm adds it by itself
    compare(rules, values, "values")


def test_the_schema_knows_every_setting_of_the_application() -> None:
    command = [sys.executable, "-m", "deploy.helm.config_schema", "--check"]
    done = subprocess.run(command, cwd=ROOT, check=False)
    assert done.returncode == 0, "run make deploy-files"
    sections = schema()["properties"]["config"]["properties"]
    known = {f"{name}.{key}" for name, rule in sections.items() for key in rule["properties"]}
    assert known == set(FIELDS) - {"profile"}


def test_the_schema_knows_the_key_files_fields() -> None:
    keys = schema()["properties"]["keys"]["properties"]
    assert set(keys["entries"]["items"]["properties"]) == KEY_FIELDS
    (tenant,) = keys["tenants"]["patternProperties"].values()
    assert set(tenant["properties"]) == set(TENANT_FIELDS)
    assert set(schema()["$defs"]["limits"]["properties"]) == set(LIMIT_NAMES)


def test_every_value_differs_from_its_default_in_some_situation() -> None:
    """So that each template line is made and checked at least once."""
    defaults = dict(leaves(yaml.safe_load((CHART / "values.yaml").read_text())))
    changed = {
        path
        for tree in SITUATIONS.values()
        for path, value in leaves(tree)
        if defaults.get(path) != value
    }
    untouched = {
        path for path in defaults if not any(f"{c}.".startswith(f"{path}.") for c in changed)
    }
    assert untouched == set()


def test_the_table_of_values_is_fresh() -> None:
    command = [sys.executable, "-m", "deploy.helm.value_table", "--check"]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0, "run make deploy-files"
