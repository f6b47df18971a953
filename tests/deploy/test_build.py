"""The CPU image, built step by step as the Dockerfile says, then run: does it serve?"""

import json
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from tests.deploy.image_builder import Container, why_not_here
from tests.integration.gateway_process import SECRET, free_ports, write_keys

WHY_NOT = why_not_here()
pytestmark = [
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT),
    pytest.mark.timeout(3000),
]
START_TIMEOUT_S = 300
QUESTION = {
    "model": "bundled",
    "messages": [{"role": "user", "content": "What is 12 + 5?"}],
    "temperature": 0,
}


def test_the_image_runs_as_its_fixed_user(container: Container) -> None:
    assert container.run("id", "-u").stdout.strip() == "10001"


def test_the_doctor_finds_the_image_complete(container: Container) -> None:
    done = container.run("python3", "-m", "app", "doctor")
    assert "vLLM's CPU build is installed" in done.stdout, done.stdout + done.stderr


def test_neither_keys_nor_tests_nor_a_second_model_are_in_the_image(container: Container) -> None:
    listing = container.run("find", "/srv/gateway", "-maxdepth", "3", "-not", "-path", "*/.venv/*")
    names = {Path(line).relative_to("/srv/gateway").as_posix() for line in listing.stdout.split()}
    assert {"app", "config", "models/bundled/w8a8", ".venv"} <= names
    assert {name.split("/")[0] for name in names} == {".", "app", "config", "models", ".venv"}
    assert not [name for name in names if "bf16" in name or name.endswith(".pyc")]


def test_the_user_can_write_to_the_cache_and_to_temporary_folders_alone(
    container: Container,
) -> None:
    """So what serves below would serve on a read-only root file system as well."""
    found = container.run("find", "/", "-xdev", "-type", "d", "-writable", "-prune").stdout.split()
    assert "/cache" in found
    assert set(found) <= {"/cache", "/usage", "/tmp", "/var/tmp", "/run/lock", "/dev/shm"}


def test_the_image_serves_the_bundled_model_and_its_health_check_follows(
    container: Container, tmp_path: Path
) -> None:
    port, management_port = free_ports(2)
    keys = write_keys(tmp_path / "keys.yaml")
    variables = [
        f"PORT={port}",
        f"GATEWAY_SERVER_MANAGEMENT_PORT={management_port}",
        "GATEWAY_AUTH_KEYS_FILE=/tmp/keys.yaml",
    ]
    give_file(container, keys, "/tmp/keys.yaml")
    check = ("python3", "/srv/image/healthcheck.py")
    assert container.run(*check, variables=variables).returncode == 1
    log_file = tmp_path / "log"
    with log_file.open("wb") as log:
        command = container.command(
            "python3", "-m", "app", "serve", "--profile", "bundled", variables=variables
        )
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_ready(f"http://127.0.0.1:{management_port}", process, log_file)
        assert container.run(*check, variables=variables).returncode == 0
        answer = httpx.post(
            f"http://127.0.0.1:{port}/v1/chat/completions",
            json=QUESTION | {"logprobs": True, "top_logprobs": 2},
            headers={"authorization": f"Bearer {SECRET}"},
            timeout=60,
        )
        assert answer.status_code == 200, answer.text
        assert "17" in answer.json()["choices"][0]["message"]["content"]
    finally:
        process.terminate()
        process.wait(120)


def give_file(container: Container, source: Path, target: str) -> None:
    """Copied for the image's user, as its owner."""
    words = ["copy", "--quiet", "--chown", "10001:10001", container.name, str(source), target]
    container.builder.call(*words)


def wait_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            if httpx.get(f"{url}/ready", timeout=60).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise AssertionError(f"not ready in time: {log.read_text()[-3000:]}")


def test_a_configuration_of_the_image_is_what_the_dockerfile_says(container: Container) -> None:
    builder = container.builder
    about = json.loads(builder.call("inspect", container.name))
    config = about["OCIv1"]["config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["python3", "-m", "app"]
    assert set(config["ExposedPorts"]) == {"8000/tcp", "9000/tcp"}
    assert config["Labels"]["org.opencontainers.image.title"] == "w8a8-gateway"
