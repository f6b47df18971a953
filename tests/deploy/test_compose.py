"""The Compose files, against the specification's schema and what docs/deploy.md promises."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy import toolbox

ROOT = Path(__file__).parents[2]
BASE = ROOT / "docker-compose.yml"
FILES = [BASE, *sorted((ROOT / "deploy").glob("compose.*.yml"))]


class ComposeLoader(yaml.SafeLoader):
    """Reads `!reset` as null: what is left after Compose has merged the files."""


ComposeLoader.add_constructor("!reset", lambda *_: None)


def load(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.load(path.read_text(), ComposeLoader)
    return document


def without_nulls(node: Any) -> Any:
    """A reset key does not reach the schema; a variable passed through is a null that stays."""
    if not isinstance(node, dict):
        return node
    return {k: without_nulls(v) for k, v in node.items() if v is not None or k.isupper()}


def services() -> list[tuple[str, dict[str, Any]]]:
    return sorted(load(BASE)["services"].items(), key=str)


def seconds(duration: str) -> int:
    match = re.fullmatch(r"(\d+)([sm])", duration)
    assert match, duration
    return int(match[1]) * {"s": 1, "m": 60}[match[2]]


def test_every_compose_file_keeps_to_the_specifications_schema() -> None:
    documents = [without_nulls(load(path)) for path in FILES]
    assert toolbox.run("check_compose.py", documents) == [[] for _ in FILES]


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


def test_only_the_gateway_starts_without_a_profile() -> None:
    profiles = {name: service.get("profiles") for name, service in services()}
    assert profiles.pop("gateway") is None
    assert all(profiles.values())


def test_every_file_that_is_mounted_exists() -> None:
    for name, service in services():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0] if isinstance(volume, str) else volume["source"]
            if source.startswith("./"):
                assert (ROOT / source).exists(), (name, source)


def test_only_the_inference_port_can_leave_the_host() -> None:
    for name, service in services():
        for port in service.get("ports", []):
            assert port.startswith(("127.0.0.1:", "${PUBLISH:-127.0.0.1:")), (name, port)
    assert "127.0.0.1:9000:9000" in load(BASE)["services"]["gateway"]["ports"]


def test_the_gateway_is_given_longer_to_stop_than_it_drains() -> None:
    gateway = load(BASE)["services"]["gateway"]
    drain = int(gateway["environment"]["GATEWAY_SERVER_DRAIN_TIMEOUT_S"])
    assert seconds(gateway["stop_grace_period"]) >= drain + 30


def test_the_cpu_override_takes_the_gpu_out_and_the_bundled_model_in() -> None:
    base, override = load(BASE)["services"], load(ROOT / "deploy/compose.cpu.yml")["services"]
    assert set(override) <= set(base)
    assert base["gateway"]["deploy"]["resources"]["reservations"]["devices"]
    assert "deploy: !reset null" in (ROOT / "deploy/compose.cpu.yml").read_text()
    assert override["gateway"]["build"]["target"] == "cpu"


@pytest.mark.parametrize(
    ("path", "profile"),
    [(BASE, "llama-3.1-8b-instruct-w8a8"), (ROOT / "deploy/compose.cpu.yml", "bundled")],
)
def test_the_served_profile_is_named_and_exists(path: Path, profile: str) -> None:
    assert load(path)["services"]["gateway"]["command"] == ["serve", "--profile", profile]
    assert (ROOT / "config" / "profiles" / f"{profile}.yaml").is_file()


def test_no_compose_file_holds_a_secret() -> None:
    for path in FILES:
        for name, service in load(path)["services"].items():
            for key, value in (service.get("environment") or {}).items():
                if re.search("TOKEN|KEY$|PASSWORD", key):
                    assert value is None or value.endswith(":-}"), (name, key)
