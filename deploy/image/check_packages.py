# ruff: noqa: T201 (it runs inside an image and prints for its log)
"""Fail the build of an image that lacks a package the gateway imports, or has another version.

    python3 check_packages.py FILE [NAME==VERSION ...]

FILE lists one distribution name a line, as requirements/gateway.in does; extras are left out.
"""

import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def main(arguments: Sequence[str]) -> int:
    path, *pinned = arguments
    lines = [line.strip() for line in Path(path).read_text().splitlines()]
    names = [line for line in lines if line and not line.startswith("#")]
    problems = [problem for wanted in [*names, *pinned] if (problem := problem_of(wanted))]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return int(bool(problems))


def problem_of(wanted: str) -> str:
    """Why `NAME` or `NAME==VERSION` is not met; empty where it is. A local suffix is ignored."""
    name, _, pin = wanted.partition("==")
    name = name.partition("[")[0]
    try:
        found = version(name)
    except PackageNotFoundError:
        return f"{name} is not installed"
    if pin and found.split("+")[0] != pin:
        return f"{name} {found} is installed, not {pin}"
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
