"""Make the project's environments from their lock files, with the standard library alone.

    python3 requirements/environment.py engine      .venv: the gateway and vLLM (CPU or CUDA build)
    python3 requirements/environment.py test        .venv, and what the tests need
    python3 requirements/environment.py quantize    .venv-quantize: llm-compressor
    python3 requirements/environment.py lm-eval     .venv-lm-eval: lm-evaluation-harness
    python3 requirements/environment.py lock        resolve the lock files anew (needs `test`)

A finished environment is left alone until its locks change. `BUILD=cpu` or `BUILD=cuda` overrides
what is found on the machine.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS = Path(__file__).resolve().parent
PYTHON = "3.11"  # the version that the locks' hashes of torch's CPU wheel are for
TORCH = "torch==2.13.0+cpu"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
CUDA_PACKAGES = ("torchvision", "torchaudio", "torchcodec")


class SetupError(Exception):
    """The environment cannot be made; the sentence says what to do."""


def main(arguments: Sequence[str]) -> int:
    wanted = arguments[0] if len(arguments) == 1 else ""
    try:
        if wanted == "lock":
            resolve_locks()
        elif wanted == "quantize":
            make_environment(ROOT / ".venv-quantize", [quantize_lock()])
        elif wanted == "lm-eval":
            make_environment(ROOT / ".venv-lm-eval", [wanted])
        elif wanted in ("engine", "test"):
            make_environment(ROOT / ".venv", engine_locks(with_tests=wanted == "test"))
        else:
            print(__doc__, file=sys.stderr)
            return 2
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def engine_locks(with_tests: bool) -> list[str]:
    """The tests run on the CPU build, so that they mean the same on every machine."""
    build = os.environ.get("BUILD") or ("cpu" if with_tests or not has_cuda_gpu() else "cuda")
    if build not in ("cpu", "cuda"):
        raise SetupError(f"BUILD is {build!r}; use cpu or cuda.")
    installed = build_of(ROOT / ".venv")
    if installed == "cuda" and with_tests and "BUILD" not in os.environ:
        build = installed
    return [build, "test"] if with_tests or "test" in stamped(ROOT / ".venv") else [build]


def quantize_lock() -> str:
    """The same packages in both, but a CPU's PyTorch would leave a GPU unused."""
    build = os.environ.get("BUILD") or ("cuda" if has_cuda_gpu() else "cpu")
    return "quantize-cuda" if build == "cuda" else "quantize"


def has_cuda_gpu() -> bool:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return False
    listing = subprocess.run([tool, "--list-gpus"], capture_output=True, text=True, check=False)
    return listing.returncode == 0 and "GPU" in listing.stdout


def build_of(environment: Path) -> str:
    return next((name for name in stamped(environment) if name in ("cpu", "cuda")), "")


def stamped(environment: Path) -> dict[str, str]:
    """The locks that were installed there, with their digests; empty where none was finished."""
    stamp = environment / "locks"
    if not stamp.is_file():
        return {}
    return dict(line.split("  ") for line in stamp.read_text().splitlines())


def make_environment(environment: Path, locks: list[str]) -> None:
    """Install `locks` into `environment`. Does nothing where just these are installed."""
    wanted = {name: digest_of(LOCKS / f"{name}.lock") for name in locks}
    present = stamped(environment)
    if present == wanted:
        return
    base_changed = any(wanted.get(name) != digest for name, digest in present.items())
    if base_changed or not present:
        print(f"Creating {environment.name} with Python {PYTHON}.", flush=True)
        subprocess.run([find_python(), "-m", "venv", "--clear", environment], check=True)
        present = {}
    for name in locks:
        if present.get(name) != wanted[name]:
            install(environment / "bin" / "python", name)
    stamp = environment / "locks"
    stamp.write_text("".join(f"{name}  {digest}\n" for name, digest in wanted.items()))


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def install(python: Path, lock: str) -> None:
    """pip-install a lock, each file checked against its hash, showing how far it is."""
    path = LOCKS / f"{lock}.lock"
    text = path.read_text()
    total = sum(1 for line in text.splitlines() if line[:1].isalnum())
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    command = [*pip, "--no-deps", "--require-hashes", "--progress-bar", "off", "-r", str(path)]
    command += ["--retries", "10", "--timeout", "60"]  # a busy mirror is asked again
    if TORCH in text and not is_available(pip, TORCH):
        command += ["--extra-index-url", TORCH_CPU_INDEX]
    print(f"Installing {total} pinned packages from {path.name} (a few minutes).", flush=True)
    if status := follow(command, total):
        raise SetupError(f"pip ended with {status} on {path.name}; its last lines are above.")


def is_available(pip: list[str], requirement: str) -> bool:
    """Whether the configured sources have it; decides if PyTorch's own index is asked."""
    probe = [*pip, "--quiet", "--dry-run", "--no-deps", "--ignore-installed", requirement]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def follow(command: list[str], total: int) -> int:
    """Run pip, printing a line for every tenth of the packages; on failure its last lines."""
    recent: deque[str] = deque(maxlen=25)
    collected = shown = 0
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as pip:
        assert pip.stdout is not None  # noqa: S101 (it is a pipe)
        for line in pip.stdout:
            recent.append(line)
            collected += line.startswith("Collecting ")
            if collected * 10 // max(total, 1) > shown:
                shown = collected * 10 // total
                print(f"  fetched {collected} of {total}", flush=True)
            if line.startswith("Installing collected"):
                print("  unpacking", flush=True)
    if pip.returncode:
        sys.stderr.writelines(recent)
    return pip.returncode


def find_python() -> str:
    """A Python of the pinned version that can make environments; installed where it is missing."""
    for candidate in (sys.executable, f"python{PYTHON}"):
        if is_usable(candidate):
            return candidate
    if os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"Installing Python {PYTHON} with apt-get.", flush=True)
        packages = [f"python{PYTHON}", f"python{PYTHON}-venv"]
        subprocess.run(["apt-get", "update", "-qq"], check=False)
        subprocess.run(["apt-get", "install", "-y", "-qq", *packages], check=False)
        if is_usable(f"python{PYTHON}"):
            return f"python{PYTHON}"
    if uv := shutil.which("uv"):
        subprocess.run([uv, "python", "install", PYTHON], check=False)
        found = subprocess.run(
            [uv, "python", "find", PYTHON], capture_output=True, text=True, check=False
        )
        if is_usable(found.stdout.strip()):
            return found.stdout.strip()
    raise SetupError(
        f"Python {PYTHON} with its venv module is needed and was not found: install "
        f"python{PYTHON} and python{PYTHON}-venv, or uv, and run this again."
    )


def is_usable(python: str) -> bool:
    """Whether it starts, is the pinned version, and can make environments with pip in them."""
    check = f"import ensurepip, sys, venv; sys.exit('{PYTHON}' != '%d.%d' % sys.version_info[:2])"
    path = shutil.which(python) if python else None
    if path is None:
        return False
    return subprocess.run([path, "-c", check], capture_output=True, check=False).returncode == 0


def resolve_locks() -> None:
    """Remake every lock from its `.in` file. Addresses are never written into them."""
    sources = wheel_folders()
    for name, extra in {
        "cpu": [*(f"--no-emit-package={package}" for package in CUDA_PACKAGES), *sources],
        "cuda": [],
        "quantize": sources,
        "quantize-cuda": [],
        "lm-eval": sources,
        "test": ["--constraint", str(LOCKS / "cpu.lock"), *sources],
    }.items():
        glibc = "manylinux_2_31" if name.endswith("cuda") else "manylinux_2_28"
        command = [str(ROOT / ".venv/bin/uv"), "pip", "compile", "--quiet", "--generate-hashes"]
        command += ["--python-version", PYTHON, "--python-platform", f"x86_64-{glibc}"]
        command += ["--no-header", "--no-annotate", "--no-emit-find-links", *extra]
        source = f"{name.removesuffix('-cuda')}.in"
        command += ["--output-file", f"{name}.lock", source]
        print(f"Resolving {name}.lock.", flush=True)
        subprocess.run(command, cwd=LOCKS, check=True)


def wheel_folders() -> list[str]:
    """pip's configured folders of wheels, as options for uv, which does not read pip's settings."""
    pip = [sys.executable, "-m", "pip", "config", "get"]
    for key in (":env:.find-links", "global.find-links"):
        found = subprocess.run([*pip, key], capture_output=True, text=True, check=False)
        if found.returncode == 0:
            return [f"--find-links={folder}" for folder in found.stdout.split()]
    return ["--extra-index-url", TORCH_CPU_INDEX]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
