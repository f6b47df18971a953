"""llm-compressor's own environment, and how the command comes to run in it."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from app.core.errors import AppError

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / ".venv-quantize"


def has_llm_compressor() -> bool:
    return importlib.util.find_spec("llmcompressor") is not None


def run_again_there(arguments: Sequence[str]) -> None:
    """Make the environment where it is missing or stale, and go on in it; does not return."""
    if Path(sys.prefix).resolve() == ENVIRONMENT.resolve():
        raise AppError(
            f"{ENVIRONMENT.name} has no llm-compressor: remove the directory and run this again."
        )
    setup = ROOT / "requirements" / "environment.py"
    if subprocess.run([sys.executable, str(setup), "quantize"], check=False).returncode != 0:
        raise AppError(f"{ENVIRONMENT.name} could not be made; what pip said is above.")
    sys.stdout.flush()
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    python = str(ENVIRONMENT / "bin" / "python")
    os.execve(  # noqa: S606 (our own interpreter, no shell)
        python, [python, "-m", "app", *arguments], {**os.environ, "PYTHONPATH": path}
    )
