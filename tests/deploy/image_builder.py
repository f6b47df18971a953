"""Builds the CPU image for real, without a registry: buildah on a base that debootstrap makes.

The base stands in for python:3.11-slim-bookworm: the same Debian, with Debian's own Python 3.11.
pip's configuration of this machine, and the folders it names, are mounted for the build. Base and
finished steps are kept in .cache, as a builder keeps its layers: a step runs again when it or what
it copies has changed.
"""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
BASE = ROOT / ".cache" / "bookworm"
STORES = ROOT / ".cache" / "buildah"
BASE_IMAGE = "docker.io/library/python:3.11-slim-bookworm"
IMAGE = "localhost/w8a8-gateway:test-cpu"
PACKAGES = "python3,python3-venv,ca-certificates"
MIRROR = "http://deb.debian.org/debian"


class Builder:
    """A buildah store of its own in `folder`, so that the user's images are not touched."""

    def __init__(self, folder: Path, driver: str) -> None:
        self.folder, self.driver = folder, driver
        store = ["--root", str(folder / "root"), "--runroot", str(folder / "run")]
        self.command = ["buildah", *store, "--storage-driver", driver]

    def call(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self.command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (
            f"buildah {arguments[0]}:\n{(done.stdout + done.stderr)[-4000:]}"
        )
        return done.stdout.strip()

    def build(self) -> None:
        if not self.call("images", "--quiet", "--filter", f"reference={BASE_IMAGE}"):
            self.import_base()
        mounts = [word for mount in self.mounts() for word in ("--volume", mount)]
        options = ["--isolation", "chroot", "--pull-never", "--target", "cpu", "--tag", IMAGE]
        # vfs copies the whole file system for every layer that is kept.
        options += [f"--layers={str(self.driver != 'vfs').lower()}"]
        self.call("build", *options, *mounts, ".")

    def import_base(self) -> None:
        base = self.call("from", "scratch")
        self.call("add", "--quiet", base, str(make_base()), "/")
        self.call("config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", base)
        self.call("commit", "--quiet", "--rm", base, BASE_IMAGE)

    def mounts(self) -> Iterator[str]:
        values = pip_settings()
        text = "".join(f"{key} = {value}\n" for key, value in values.items())
        path = self.folder / "pip.conf"
        path.write_text(f"[global]\n{text}")
        yield f"{path}:/etc/pip.conf:ro"
        for word in " ".join(values.values()).split():
            named = Path(word.removeprefix("file://"))
            if word.startswith("file://"):
                named = named.parent  # an index links to the files beside it
            if named.is_absolute() and named.exists():
                yield f"{named}:{named}:ro"

    def start(self) -> "Container":
        return Container(self, self.call("from", "--pull-never", IMAGE))

    def close(self) -> None:
        """Containers go; finished steps stay, unless they are whole copies."""
        self.call("rm", "--all")
        if self.driver == "vfs":
            shutil.rmtree(self.folder)


def open_builder() -> Builder:
    """One store for what decides the slow steps; those of other times are removed."""
    driver = "overlay" if has_overlay() else "vfs"
    files = [ROOT / "Dockerfile", *sorted((ROOT / "requirements").glob("*"))]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files if path.is_file()))
    folder = STORES / f"{driver}-{digest.hexdigest()[:16]}"
    for other in STORES.glob("*"):
        if other != folder:
            shutil.rmtree(other)
    folder.mkdir(parents=True, exist_ok=True)
    builder = Builder(folder, driver)
    builder.call("rm", "--all")  # of a run that was killed
    return builder


def has_overlay() -> bool:
    """Whether the kernel lets us mount one file system over another where .cache is."""
    STORES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=STORES.parent) as name:
        trial = Builder(Path(name), "overlay")
        commands = [["from", "--name", "trial", "scratch"], ["mount", "trial"], ["rm", "trial"]]
        return all(
            subprocess.run([*trial.command, *words], capture_output=True, check=False).returncode
            == 0
            for words in commands
        )


class Container:
    """A container of the image; commands in it run as the image's user with its environment."""

    def __init__(self, builder: Builder, name: str) -> None:
        self.builder, self.name = builder, name

    def command(self, *words: str, variables: Sequence[str] = ()) -> list[str]:
        options = [option for variable in variables for option in ("--env", variable)]
        run = ["run", "--isolation", "chroot", *options, self.name, "--", *words]
        return [*self.builder.command, *run]

    def run(self, *words: str, variables: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        command = self.command(*words, variables=variables)
        return subprocess.run(command, capture_output=True, text=True, check=False)


def pip_settings() -> dict[str, str]:
    """pip's settings on this machine, from its files and the environment alike."""
    pip = [shutil.which("python3") or "python3", "-m", "pip", "config", "list"]
    listed = subprocess.run(pip, capture_output=True, text=True, check=False).stdout
    found = re.findall(r"^(?:global|:env:)\.([\w-]+)='(.*)'$", listed, re.M)
    return {key: value.replace("\\n", " ") for key, value in found if key != "require-virtualenv"}


def make_base() -> Path:
    """Debian's root file system, kept for the next time."""
    done = BASE / "etc" / "w8a8-base"
    if not done.exists():
        shutil.rmtree(BASE, ignore_errors=True)
        BASE.parent.mkdir(exist_ok=True)
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm"]
        subprocess.run([*command, str(BASE), MIRROR], check=True, capture_output=True)
        done.touch()
    return BASE


@cache
def why_not_here() -> str:
    """Why no image can be built on this machine; empty where one can. Installs what is missing."""
    missing = [tool for tool in ("buildah", "debootstrap") if not shutil.which(tool)]
    if os.geteuid() != 0:
        return "buildah with chroot isolation and debootstrap need root"
    if missing and shutil.which("apt-get"):
        subprocess.run(["apt-get", "update", "-qq"], check=False)
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
        subprocess.run(install, check=False, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})
        missing = [tool for tool in missing if not shutil.which(tool)]
    return f"there is no {' and no '.join(missing)}" if missing else ""
