"""Debian's packages, unpacked beside the project. Nothing is installed: no service starts."""

import os
import shutil
import subprocess
from pathlib import Path

UNPACKED = Path(__file__).parents[1] / ".cache" / "debian"


def find_program(name: str, *packages: str) -> str:
    """The path of a program: the machine's, or else that of the packages."""
    if found := shutil.which(name):
        return found
    program = unpack(packages[0], *packages) / "usr" / "bin" / name
    assert program.exists(), f"{name} is neither on the PATH nor in Debian's {packages[0]}"
    return str(program)


def unpack(name: str, *packages: str) -> Path:
    """The root of a tree with the packages' files; `name`d, and made on first use."""
    tree, partial = UNPACKED / name, UNPACKED / f".{name}.partial"
    if not tree.exists():
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        if os.geteuid() == 0:
            subprocess.run(["apt-get", "update", "-qq"], check=False)
        subprocess.run(["apt-get", "download", "-qq", *packages], cwd=partial, check=True)
        for package in partial.glob("*.deb"):
            subprocess.run(["dpkg-deb", "--extract", str(package), str(partial)], check=True)
        partial.rename(tree)
    return tree
