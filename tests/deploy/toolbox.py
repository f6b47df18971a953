"""The environment of the deployment checks: Helm, Kubernetes' schemas, the Compose schema.

It is `.venv-deploy`, made from requirements/deploy.lock on first use. It is apart from the engine's
because the Helm library needs Python 3.12 or newer.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements" / "deploy.lock"
ENVIRONMENT = ROOT / ".venv-deploy"
PYTHON = str(ENVIRONMENT / "bin" / "python")
VERSIONS = ("3.12", "3.13", "3.14")


def prepare() -> None:
    """Make the environment; does nothing where the one of this lock is there."""
    stamp = ENVIRONMENT / "lock"
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text() == digest:
        return
    subprocess.run([find_python(), "-m", "venv", "--clear", str(ENVIRONMENT)], check=True)
    pip = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", "--require-hashes", "-r", str(LOCK)], check=True)
    stamp.write_text(digest)


def find_python() -> str:
    for candidate in candidates():
        if shutil.which(candidate) and is_new_enough(candidate):
            return candidate
    raise RuntimeError(
        "make test-deploy needs Python 3.12 or newer for the Helm library: install python3.12 "
        "with its venv module, or let `uv python install 3.12` bring one."
    )


def candidates() -> Iterator[str]:
    yield sys.executable
    yield from (f"python{version}" for version in VERSIONS)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from (str(path) for path in sorted(pyenv.glob("versions/3.1[2-4].*/bin/python3")))
    if uv := shutil.which("uv", path=f"{ROOT}/.venv/bin:{os.environ['PATH']}"):
        for action in (["find"], ["install", "--quiet"], ["find"]):
            command = [uv, "python", *action, VERSIONS[0]]
            found = subprocess.run(command, capture_output=True, text=True, check=False)
            yield found.stdout.strip()


def is_new_enough(python: str) -> bool:
    check = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 12))"
    return subprocess.run([python, "-c", check], capture_output=True, check=False).returncode == 0


def run(script: str, request: object) -> Any:
    """Run tests/deploy/SCRIPT there, with `request` as JSON on its stdin; its stdout's JSON."""
    prepare()
    done = subprocess.run(
        [PYTHON, str(Path(__file__).with_name(script))],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{script} failed:\n{done.stderr[-4000:]}"
    return json.loads(done.stdout)
