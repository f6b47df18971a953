"""On PYTHONPATH of a command under test: an NVIDIA driver with the GPUs of FAKE_GPUS."""

import ctypes
import json
import os
from typing import Any

from tests.unit.plan.fake_nvml import FakeGpu, FakeNvml

real = ctypes.CDLL
machine = json.loads(os.environ["FAKE_GPUS"])


def load(name: str | None, *arguments: Any, **options: Any) -> Any:
    if name != "libnvidia-ml.so.1":
        return real(name, *arguments, **options)
    if machine["driver"] is None:
        raise OSError(f"{name}: cannot open shared object file")
    gpus = tuple(
        FakeGpu(gpu["name"], gpu["total"], 0, gpu["free"], tuple(gpu["capability"]))
        for gpu in machine["gpus"]
    )
    return FakeNvml(gpus, machine["driver"])


ctypes.CDLL = load  # type: ignore[assignment, misc]
