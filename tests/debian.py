"""Debian's packages, unpacked beside the project. Nothing is installed: no service starts."""

import os
import subprocess
from pathlib import Path

UNPACKED = Path(__file__).parents[1] / ".cache" / "debian"


def unpack(name: str, *packages: str) -> Path:
    """The root of a tree with the packages' files; `name`d, and made on first use."""
    tree = UNPACKED / name
    if not (tree / "usr").exists():
        tree.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            subprocess.run(["apt-get", "update", "-qq"], check=False)
        subprocess.run(["apt-get", "download", "-qq", *packages], cwd=tree, check=True)
        for package in tree.glob("*.deb"):
            subprocess.run(["dpkg-deb", "--extract", str(package), str(tree)], check=True)
    return tree
