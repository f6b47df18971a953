"""The chart's configuration files, judged by the application itself."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.settings.key_file import parse_keys
from tests.deploy.chart import ROOT, SITUATIONS, Manifest
from tests.deploy.chart import situations as installed

ASSIGNMENT = re.compile(r"^(?:ENV|   ) +([A-Z_]+)=(\S+)(?: \\)?$", re.M)


def image_environment() -> dict[str, str]:
    """What the GPU image sets: it comes after the configuration file and could contradict it."""
    stage = (ROOT / "Dockerfile").read_text().partition(" AS gpu\n")[2].partition("\nFROM ")[0]
    return dict(ASSIGNMENT.findall(stage))


def gateway_of(name: str) -> Manifest:
    release = installed()[name]
    if groups := release.of_kind("LeaderWorkerSet"):
        template = groups[0]["spec"]["leaderWorkerTemplate"]["leaderTemplate"]
    else:
        template = release.one("Deployment")["spec"]["template"]
    container: Manifest = template["spec"]["containers"][0]
    return container


def check(name: str, config: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the container's own command line with `--check`, in the image's environment."""
    container = gateway_of(name)
    arguments = [*container["args"], "--check"]
    mounted = folder / "gateway.yaml"
    mounted.write_text(config)
    arguments[arguments.index("/etc/gateway/gateway.yaml")] = str(mounted)
    entries = container.get("env", [])
    plain = {entry["name"]: entry["value"] for entry in entries if "value" in entry}
    settings = {k: v for k, v in image_environment().items() if k not in ("PATH", "PYTHONPATH")}
    environment = {"PATH": os.environ["PATH"], **settings, **plain, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "app", *arguments]
    return subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", SITUATIONS)
def test_the_application_accepts_the_charts_settings(name: str, tmp_path: Path) -> None:
    done = check(name, installed()[name].config, tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_application_refuses_a_setting_that_it_does_not_have(tmp_path: Path) -> None:
    config = installed()["minimal"].config.replace("drain_timeout_s", "drain_timeout")
    done = check("minimal", config, tmp_path)
    assert done.returncode == 2
    assert "drain_timeout" in done.stderr


@pytest.mark.parametrize("name", ["cpu", "everything"])
def test_the_application_reads_the_charts_key_file(name: str) -> None:
    (secret,) = installed()[name].of_kind("Secret")
    ring = parse_keys(secret["stringData"]["keys.yaml"].encode(), Path("keys.yaml"))
    wanted = SITUATIONS[name]["keys"]
    assert [entry["name"] for entry in wanted["entries"]] == [key.name for key in ring.keys]
    for tenant, entry in wanted.get("tenants", {}).items():
        assert ring.tenants[tenant].weight == entry["weight"]


def test_the_image_opens_the_ports_that_the_chart_names() -> None:
    ports = {port["name"]: port["containerPort"] for port in gateway_of("minimal")["ports"]}
    environment = image_environment()
    assert str(ports["api"]) == environment["PORT"]
    assert str(ports["management"]) == environment["GATEWAY_SERVER_MANAGEMENT_PORT"]
    assert environment["HOST"] == environment["GATEWAY_SERVER_MANAGEMENT_HOST"] == "0.0.0.0"
