"""Pack vLLM's CUDA build for a GPU host that has PyTorch, no package registry, and little room.

    python3 deploy/gpu/pack.py --out out/gpu-pack            # here; needs pip and a registry
    python3 -m tarfile -e gpu-pack.tar.xz /tmp/gpu-pack      # there
    export PYTHONPATH=/tmp/gpu-pack VLLM_USE_FLASHINFER_SAMPLER=0

The archive holds vLLM's Python code, the compiled code that a dense model needs, for one GPU
architecture, and the packages of packages.txt at cuda.lock's versions: 52 MiB for sm_90. Left out:
FlashAttention 2, DeepGEMM, FlashMLA, FlashInfer, the tuned tables of other cards, vLLM's Rust front
end, vision and audio. What such an archive measures it measures under the host's PyTorch, and not
the one that vLLM is pinned to.

No CUDA kernel of such an archive has been launched yet: check-int8 is the first thing to run on it.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from fatbin import keep_architecture

FOLDER = Path(__file__).resolve().parent
LOCK = FOLDER.parents[1] / "requirements" / "cuda.lock"
KEPT_LIBRARIES = {
    "vllm/_C_stable_libtorch.abi3.so",
    "vllm/_moe_C_stable_libtorch.abi3.so",
    "vllm/vllm_flash_attn/_vllm_fa3_C.abi3.so",
    "vllm/cumem_allocator.abi3.so",
    "vllm/spinloop.abi3.so",
    "vllm/fs_io_C.abi3.so",
}
LEFT_OUT = re.compile(
    r"vllm/(vllm-rs$|third_party/(deep_gemm|fmha_sm100)/|.*swagger-ui|.*\.(jpg|png)$)"
    r"|.*/RECORD$"
)
TUNED = re.compile(r"vllm/.*/configs/.*\.json$")
MANYLINUX = (
    *(f"manylinux_2_{minor}_x86_64" for minor in range(39, 16, -1)),
    "manylinux2014_x86_64",
)


def main() -> None:
    arguments = read_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    versions = locked_versions()
    with tempfile.TemporaryDirectory() as name:
        site = Path(name) / "site"
        site.mkdir()
        wheel = arguments.wheel or fetch_wheel(Path(name), versions["vllm"], arguments)
        unpack(wheel, site, arguments.card)
        for library in sorted(site.rglob("*.so")):
            reduce_library(library, arguments.architecture)
        install_packages(site, [versions[package] for package in wanted_packages()], arguments)
        tidy(site)
        archive = arguments.out / "gpu-pack.tar.xz"
        write_archive(site, archive)
    print(f"{archive}: {archive.stat().st_size / 2**20:.1f} MiB")


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("out/gpu-pack"))
    parser.add_argument("--wheel", type=Path, help="vLLM's, where it is here already")
    parser.add_argument("--architecture", type=int, default=90, help="90: H100 and H200 (sm_90)")
    parser.add_argument("--card", default="H200", help="whose tuned tables are kept")
    parser.add_argument("--python", default="3.12", help="the host's (default: %(default)s)")
    return parser.parse_args()


def locked_versions() -> dict[str, str]:
    """`name==version` by name."""
    lines = [line.split()[0] for line in LOCK.read_text().splitlines() if line[:1].isalnum()]
    return {line.partition("==")[0]: line for line in lines}


def wanted_packages() -> list[str]:
    lines = (FOLDER / "packages.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def for_host(arguments: argparse.Namespace) -> list[str]:
    """pip's options for wheels of the host's Python, without what they depend on."""
    platforms = [word for each in MANYLINUX for word in ("--platform", each)]
    python = ["--python-version", arguments.python, "--implementation", "cp"]
    return ["--quiet", "--no-deps", "--only-binary=:all:", *python, *platforms]


def pip(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)


def fetch_wheel(folder: Path, requirement: str, arguments: argparse.Namespace) -> Path:
    pip("download", *for_host(arguments), "--dest", str(folder), requirement)
    return next(folder.glob("vllm-*.whl"))


def unpack(wheel: Path, site: Path, card: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in names_to_keep(archive.namelist(), card):
            archive.extract(name, site)


def names_to_keep(names: list[str], card: str) -> Iterator[str]:
    for name in names:
        if name.endswith(".so") and name not in KEPT_LIBRARIES:
            continue
        if TUNED.match(name) and card.lower() not in name.lower():
            continue
        if not LEFT_OUT.match(name):
            yield name


def reduce_library(path: Path, architecture: int) -> None:
    if shutil.which("strip"):
        subprocess.run(["strip", "--strip-unneeded", str(path)], check=True)
    library = bytearray(path.read_bytes())
    with_code, without = keep_architecture(library, architecture)
    path.write_bytes(library)
    if with_code or without:
        print(f"{path.name}: {with_code} of {with_code + without} containers for sm_{architecture}")


def install_packages(site: Path, requirements: list[str], arguments: argparse.Namespace) -> None:
    options = [*for_host(arguments), "--no-compile", "--target", str(site)]
    pip("install", *options, *requirements)


def tidy(site: Path) -> None:
    """What nothing imports."""
    for pattern in ("bin", "*/tests", "tvm_ffi/include"):
        for path in site.glob(pattern):
            shutil.rmtree(path)
    for path in [*site.rglob("__pycache__")]:
        shutil.rmtree(path)


def write_archive(site: Path, archive: Path) -> None:
    with tarfile.open(archive, "w:xz", preset=9) as packed:
        for path in sorted(site.iterdir()):
            packed.add(path, path.name)


if __name__ == "__main__":
    main()
