"""What a measurement ran on: its figures mean nothing without."""

import platform
from typing import Any


def describe_device() -> dict[str, Any]:
    import torch
    import vllm

    versions = {"vllm": vllm.__version__, "torch": torch.__version__}
    if not torch.cuda.is_available():
        return {**versions, "device": f"CPU ({platform.machine()})", "driver": None}
    return {**versions, "device": torch.cuda.get_device_name(), "driver": read_driver()}


def read_driver() -> str:
    """The NVIDIA driver's version, by the NVML that vLLM carries."""
    from vllm.third_party import pynvml

    pynvml.nvmlInit()
    try:
        return str(pynvml.nvmlSystemGetDriverVersion())
    finally:
        pynvml.nvmlShutdown()
