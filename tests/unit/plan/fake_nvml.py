"""A driver library in Python: it fills the same structures that NVML would."""

import ctypes
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class FakeGpu:
    name: str
    total: int
    reserved: int
    free: int
    capability: tuple[int, int]


@dataclass
class FakeNvml:
    gpus: tuple[FakeGpu, ...]
    driver: str = "580.95.05"
    failing: str = ""
    failure: int = 999
    calls: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvml"):
            raise AttributeError(name)
        self.calls.append(name)
        if name == self.failing:
            return lambda *_: self.failure
        return getattr(self, f"answer_{name[4:].removesuffix('_v2')}")

    def answer_Init(self) -> int:  # noqa: N802 (NVML's own names)
        return 0

    answer_Shutdown = answer_Init  # noqa: N815

    def answer_SystemGetDriverVersion(self, buffer: Any, _: Any) -> int:  # noqa: N802
        buffer.value = self.driver.encode()
        return 0

    def answer_DeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = len(self.gpus)
        return 0

    def answer_DeviceGetHandleByIndex(self, index: Any, handle: Any) -> int:  # noqa: N802
        handle._obj.value = index.value + 1
        return 0

    def answer_DeviceGetHandleByUUID(self, uuid: bytes, handle: Any) -> int:  # noqa: N802
        handle._obj.value = int(uuid.removeprefix(b"GPU-")) + 1
        return 0

    def answer_DeviceGetName(self, handle: ctypes.c_void_p, buffer: Any, _: Any) -> int:  # noqa: N802
        buffer.value = self.gpu(handle).name.encode()
        return 0

    def answer_DeviceGetMemoryInfo(self, handle: ctypes.c_void_p, memory: Any) -> int:  # noqa: N802
        assert memory._obj.version == 0x2000028
        gpu = self.gpu(handle)
        memory._obj.total, memory._obj.reserved = gpu.total, gpu.reserved
        memory._obj.free, memory._obj.used = gpu.free, gpu.total - gpu.reserved - gpu.free
        return 0

    def answer_DeviceGetCudaComputeCapability(  # noqa: N802
        self, handle: ctypes.c_void_p, major: Any, minor: Any
    ) -> int:
        major._obj.value, minor._obj.value = self.gpu(handle).capability
        return 0

    def gpu(self, handle: ctypes.c_void_p) -> FakeGpu:
        assert handle.value is not None
        return self.gpus[handle.value - 1]
