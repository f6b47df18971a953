# ruff: noqa: S101 (a command of the image's build)
"""Install what vLLM's own image lacks, as a lock pins it, into a folder of its own.

    python3 add_packages.py LOCK FOLDER NAME...

Each file is checked against its hash; nothing that the image has is touched.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

PIN = re.compile(r"^(?P<name>[a-z0-9-]+)==(?:.*\\\n)*.*\n", re.M)


def main(arguments: Sequence[str]) -> int:
    lock, folder, *names = arguments
    pins = {match["name"]: match[0] for match in PIN.finditer(Path(lock).read_text())}
    missing = [name for name in names if name not in pins]
    assert not missing, f"{lock} does not pin {missing}"
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.writelines(pins[name] for name in names)
        requirements.flush()
        pip = [sys.executable, "-m", "pip", "install", "--no-cache-dir", "--target", folder]
        options = ["--no-deps", "--require-hashes", "--only-binary=:all:"]
        return subprocess.run([*pip, *options, "-r", requirements.name], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
