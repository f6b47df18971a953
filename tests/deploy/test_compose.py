"""The Compose file, against the specification's schema and what docs/deploy.md promises."""

import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from app.settings.layers import from_variables
from tests.deploy import toolbox
from tests.integration.gateway_process import free_port
from tests.shared_limits.redis_server import START_TIMEOUT_S, library_path
from tests.shared_limits.redis_server import find as find_redis

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
PUBLISHED = ("127.0.0.1:", "${PUBLISH:-127.0.0.1:")
GATEWAYS = ("gateway", "gateway-cpu")


def compose() -> dict[str, Any]:
    """With its anchors merged, and its variables as they stand."""
    document: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return document


def services() -> list[tuple[str, dict[str, Any]]]:
    return sorted(compose()["services"].items(), key=str)


def seconds(duration: str) -> int:
    match = re.fullmatch(r"(\d+)([sm])", duration)
    assert match, duration
    return int(match[1]) * {"s": 1, "m": 60}[match[2]]


def test_the_compose_file_keeps_to_the_specifications_schema() -> None:
    assert toolbox.run("check_compose.py", [compose()]) == [[]]


def test_the_schema_check_can_fail() -> None:
    document = {"services": {"gateway": {"image": "w8a8-gateway", "restrat": "no"}}}
    ((problem,),) = toolbox.run("check_compose.py", [document])
    assert "restrat" in problem


@pytest.mark.parametrize(("name", "service"), services())
def test_every_service_is_bounded_pinned_and_without_privilege(
    name: str, service: dict[str, Any]
) -> None:
    image = service["image"].rpartition("/")[2]
    assert ":" in image and not image.endswith(":latest"), name
    assert "privileged" not in service and "pid" not in service and "ipc" not in service
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["mem_limit"] and service["restart"]
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}


@pytest.mark.parametrize(("name", "service"), services())
def test_every_service_but_the_web_page_is_read_only_and_not_root(
    name: str, service: dict[str, Any]
) -> None:
    if name == "ui":  # Open WebUI's image writes beside its own code
        assert service["profiles"] == ["ui"]
        return
    assert service["cap_drop"] == ["ALL"]
    assert service["read_only"] is True
    assert not str(service["user"]).startswith(("0", "root"))


def test_only_the_gpu_gateway_starts_without_a_profile() -> None:
    profiles = {name: service.get("profiles") for name, service in services()}
    assert profiles.pop("gateway") is None
    assert all(profiles.values())
    wanted = {"monitoring", "ui", "redis", "cpu", "keys"}
    assert {name for names in profiles.values() for name in names or ()} == wanted


def test_every_file_that_is_mounted_exists() -> None:
    for name, service in services():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0] if isinstance(volume, str) else volume["source"]
            if source.startswith("./"):
                assert (ROOT / source).exists(), (name, source)


def test_only_the_inference_port_can_leave_the_host() -> None:
    for name, service in services():
        for port in service.get("ports", []):
            assert port.startswith(PUBLISHED), (name, port)
    for name in GATEWAYS:
        assert "127.0.0.1:9000:9000" in compose()["services"][name]["ports"]


@pytest.mark.parametrize("name", GATEWAYS)
def test_a_gateway_is_given_longer_to_stop_than_it_drains(name: str) -> None:
    gateway = compose()["services"][name]
    drain = int(gateway["environment"]["GATEWAY_SERVER_DRAIN_TIMEOUT_S"])
    assert seconds(gateway["stop_grace_period"]) >= drain + 30


def test_the_cpu_gateway_takes_the_others_place_without_a_gpu() -> None:
    gpu, cpu = (compose()["services"][name] for name in GATEWAYS)
    assert gpu["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
    assert "deploy" not in cpu
    assert cpu["networks"]["default"]["aliases"] == [GATEWAYS[0]]  # as Prometheus knows it
    for key in ("ports", "volumes", "hostname", "user", "stop_grace_period"):
        assert cpu[key] == gpu[key]


def test_as_many_gpus_are_reserved_as_share_the_model() -> None:
    gateway = compose()["services"]["gateway"]
    (device,) = gateway["deploy"]["resources"]["reservations"]["devices"]
    assert device["count"] == gateway["environment"]["GATEWAY_ENGINE_TENSOR_PARALLEL_SIZE"]


@pytest.mark.parametrize(
    ("name", "profile"), [("gateway", "llama-3.1-8b-instruct-w8a8"), ("gateway-cpu", "bundled")]
)
def test_the_served_profile_is_named_and_exists(name: str, profile: str) -> None:
    named = compose()["services"][name]["command"][-1]
    assert named in (profile, f"${{PROFILE:-{profile}}}")
    assert (ROOT / "config" / "profiles" / f"{profile}.yaml").is_file()


@pytest.mark.parametrize("name", [*GATEWAYS, "keys", "keys-cpu"])
def test_an_image_of_ours_is_built_and_never_pulled(name: str) -> None:
    """A key is made before anything is started: its image has to come from somewhere."""
    service = compose()["services"][name]
    target = service["build"]["target"]
    assert service["image"].endswith(f"-{target}")
    assert f" AS {target}\n" in (ROOT / "Dockerfile").read_text()


def test_every_image_of_others_is_listed_with_what_is_known_of_its_tag() -> None:
    used = {service["image"] for _, service in services() if "build" not in service}
    used |= set(re.findall(r"^FROM (\S+:\S+) AS", (ROOT / "Dockerfile").read_text(), re.M))
    listed = re.findall(r"^\| `([^`]+:[^`]+)` \|", (ROOT / "docs" / "deploy.md").read_text(), re.M)
    assert used == set(listed)


def test_every_variable_of_a_gateway_is_a_setting() -> None:
    for name in GATEWAYS:
        variables = compose()["services"][name]["environment"]
        known = {key: "" for key in variables if key.startswith("GATEWAY_")}
        assert len(known) >= 3
        from_variables(name, known)


def test_no_read_only_service_has_a_secret_or_config_that_is_no_file() -> None:
    """Compose copies those into the container, and does not start one that is read-only."""
    document = compose()
    for name, service in services():
        for kind in ("secrets", "configs"):
            for each in service.get(kind, []) if service.get("read_only") else []:
                source = each if isinstance(each, str) else each["source"]
                assert "file" in document[kind][source], (name, source)


def test_the_password_of_redis_reaches_the_gateway_by_its_url_and_redis_by_the_same_variable() -> (
    None
):
    services = compose()["services"]
    url = services["gateway"]["environment"]["GATEWAY_LIMITS_REDIS_URL"]
    variable = "REDIS_PASSWORD"
    assert url == f"${{{variable}:+redis://:${{{variable}}}@redis:6379/0}}"
    redis = services["redis"]
    assert "ports" not in redis
    assert redis["environment"] == {variable: f"${{{variable}:-}}"}
    assert {"--appendonly", "noeviction"} <= set(redis["command"][-1].split())
    assert services["gateway"]["depends_on"]["redis"]["required"] is False


def test_the_command_of_redis_starts_one_that_wants_the_password(tmp_path: Path) -> None:
    """The real one, by the very command; only the paths and the port are others."""
    server = find_redis()
    (tmp_path / "data").mkdir()
    shell, option, script = compose()["services"]["redis"]["command"]
    script = script.replace("$$", "$").replace("redis-server", server, 1)
    script = script.replace("/data", f"{tmp_path}/data --port {(port := free_port())}")
    variables = os.environ | library_path()
    unset = subprocess.run([shell, option, script], env=variables, capture_output=True, timeout=120)
    assert unset.returncode and b"REDIS_PASSWORD" in unset.stderr
    variables |= {"REDIS_PASSWORD": "of-this-test"}
    process = subprocess.Popen([shell, option, script], env=variables)
    try:
        client = redis.Redis(port=port, password="of-this-test")
        wait_for_redis(client, process)
        assert client.config_get("appendonly", "maxmemory-policy") == {
            "appendonly": "yes",
            "maxmemory-policy": "noeviction",
        }
        assert "of-this-test" not in Path(f"/proc/{process.pid}/cmdline").read_text()
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=port).ping()
    finally:
        process.terminate()
        process.wait(120)
    assert list((tmp_path / "data" / "appendonlydir").iterdir())


def wait_for_redis(client: redis.Redis, process: "subprocess.Popen[bytes]") -> None:
    give_up_s = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            assert client.ping()
            return
        except redis.ConnectionError:
            assert process.poll() is None and time.monotonic() < give_up_s
            time.sleep(0.05)


def test_the_compose_file_holds_no_secret() -> None:
    for name, service in compose()["services"].items():
        for key, value in (service.get("environment") or {}).items():
            if re.search("TOKEN|KEY$|PASSWORD", key):
                assert value is None or value.endswith(":-}"), (name, key)
