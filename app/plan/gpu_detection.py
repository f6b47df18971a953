"""The GPUs in this machine, read from the NVIDIA driver's own library, NVML.

Through ctypes: it is then the same on both builds, needs no package, and starts no CUDA context,
which would take some hundred MiB of the memory that is being counted. Declarations: nvml.h.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from app.core.gpus import Gpu

LIBRARY = "libnvidia-ml.so.1"
MAX_TEXT_BYTES = 96
NOT_SUPPORTED = 3  # NVML_ERROR_NOT_SUPPORTED


class Memory(ctypes.Structure):
    """`nvmlMemory_v2_t`: unlike the first version it keeps the driver's reserve apart."""

    _fields_ = (
        ("version", ctypes.c_uint),
        ("total", ctypes.c_ulonglong),
        ("reserved", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


MEMORY_VERSION = ctypes.sizeof(Memory) | (2 << 24)


class NvmlError(Exception):
    """A call into NVML failed."""


@dataclass(frozen=True)
class Machine:
    """What the driver says: its version (None where there is none), and the visible GPUs."""

    driver: str | None
    gpus: tuple[Gpu, ...]


def detect_gpus() -> Machine:
    """Without a driver, or where it does not answer, there are no GPUs: never an error."""
    try:
        with opened_library() as nvml:
            gpus = tuple(read_gpu(nvml, handle) for handle in visible_handles(nvml))
            return Machine(read_text(nvml, "nvmlSystemGetDriverVersion"), gpus)
    except (OSError, NvmlError, AttributeError):
        return Machine(None, ())


@contextmanager
def opened_library() -> Iterator[ctypes.CDLL]:
    nvml = ctypes.CDLL(LIBRARY)
    call(nvml, "nvmlInit_v2")
    try:
        yield nvml
    finally:
        nvml.nvmlShutdown()


def call(nvml: ctypes.CDLL, function: str, *arguments: object) -> None:
    status = getattr(nvml, function)(*arguments)
    if status != 0:
        raise NvmlError(f"{function} answered {status}")


def visible_handles(nvml: ctypes.CDLL) -> Iterator[ctypes.c_void_p]:
    """Device handles in the order of CUDA_VISIBLE_DEVICES: numbers, or UUIDs."""
    count = ctypes.c_uint()
    call(nvml, "nvmlDeviceGetCount_v2", ctypes.byref(count))
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = map(str, range(count.value)) if chosen is None else chosen.split(",")
    for name in map(str.strip, names):
        handle = ctypes.c_void_p()
        if name.startswith(("GPU-", "MIG-")):
            call(nvml, "nvmlDeviceGetHandleByUUID", name.encode(), ctypes.byref(handle))
        elif name.isdecimal() and int(name) < count.value:
            index = ctypes.c_uint(int(name))
            call(nvml, "nvmlDeviceGetHandleByIndex_v2", index, ctypes.byref(handle))
        else:
            return  # CUDA too stops at the first entry that names no device
        yield handle


def read_gpu(nvml: ctypes.CDLL, handle: ctypes.c_void_p) -> Gpu:
    total_bytes, free_bytes = read_memory(nvml, handle)
    major, minor = ctypes.c_int(), ctypes.c_int()
    numbers = ctypes.byref(major), ctypes.byref(minor)
    call(nvml, "nvmlDeviceGetCudaComputeCapability", handle, *numbers)
    return Gpu(
        name=read_text(nvml, "nvmlDeviceGetName", handle),
        total_bytes=total_bytes,
        free_bytes=free_bytes,
        capability=(major.value, minor.value),
    )


def read_memory(nvml: ctypes.CDLL, handle: ctypes.c_void_p) -> tuple[int, int]:
    """Total and free bytes. A GPU that has no memory of its own (GB10) uses the machine's."""
    memory = Memory(version=MEMORY_VERSION)
    status = nvml.nvmlDeviceGetMemoryInfo_v2(handle, ctypes.byref(memory))
    if status == NOT_SUPPORTED:
        pages = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_AVPHYS_PAGES")
        total, free = (count * os.sysconf("SC_PAGE_SIZE") for count in pages)
        return total, free
    if status != 0:
        raise NvmlError(f"nvmlDeviceGetMemoryInfo_v2 answered {status}")
    return memory.total - memory.reserved, memory.free


def read_text(nvml: ctypes.CDLL, function: str, *arguments: object) -> str:
    buffer = ctypes.create_string_buffer(MAX_TEXT_BYTES)
    call(nvml, function, *arguments, buffer, ctypes.c_uint(MAX_TEXT_BYTES))
    return buffer.value.decode(errors="replace")
