"""The settings that decide memory, and the device: with vLLM's defaults where nothing was said."""

from dataclasses import dataclass
from math import ceil

from app.core.errors import SettingsError
from app.core.gpus import FIRST_BF16, GIB, Gpu
from app.core.memory.shape import DTYPE_BYTES, ModelShape

LARGE_GPU_BYTES = 70 * GIB
HUGE_GPU_BYTES = 160 * GIB
QUANTIZED_KV_PREFIX = "fp8"


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU, or the CPU's memory (`capability` is None)."""

    name: str
    total_bytes: int
    free_bytes: int
    capability: tuple[int, int] | None

    @property
    def is_cpu(self) -> bool:
        return self.capability is None

    @classmethod
    def of(cls, gpu: Gpu) -> "Device":
        return cls(gpu.name, gpu.total_bytes, gpu.free_bytes, gpu.capability)


@dataclass(frozen=True, slots=True)
class Knobs:
    """Settings of `engine:`; None stands for vLLM's own default, as there."""

    gpu_memory_utilization: float = 0.9
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    dtype: str = "auto"
    kv_cache_dtype: str = "auto"
    tensor_parallel_size: int = 1
    enforce_eager: bool = False
    cpu_kv_cache_gib: float = 1


@dataclass(frozen=True, slots=True)
class Resolved:
    """The same with every default filled in."""

    gpu_memory_utilization: float
    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    dtype: str
    kv_cache_dtype: str
    tensor_parallel_size: int
    enforce_eager: bool
    cpu_kv_cache_bytes: int

    @property
    def dtype_bytes(self) -> int:
        return DTYPE_BYTES[self.dtype]

    @property
    def kv_value_bytes(self) -> int:
        if self.kv_cache_dtype == "auto":
            return self.dtype_bytes
        if self.kv_cache_dtype.startswith(QUANTIZED_KV_PREFIX):
            return 1
        return DTYPE_BYTES.get(self.kv_cache_dtype, self.dtype_bytes)


def resolve(knobs: Knobs, shape: ModelShape, device: Device) -> Resolved:
    """vLLM 0.32.0's defaults for a server (engine/arg_utils.py, get_batch_defaults)."""
    limit = shape.architecture.max_positions
    max_model_len = knobs.max_model_len or limit
    if max_model_len is None:
        raise SettingsError("config.json has no max_position_embeddings: set engine.max_model_len.")
    refuse_impossible_split(shape, knobs.tensor_parallel_size)
    num_tokens, num_seqs = batch_defaults(device)
    num_seqs = knobs.max_num_seqs or num_seqs
    default_tokens = max(min(num_tokens, max_model_len * num_seqs), num_seqs)
    return Resolved(
        gpu_memory_utilization=knobs.gpu_memory_utilization,
        max_model_len=max_model_len,
        max_num_seqs=num_seqs,
        max_num_batched_tokens=knobs.max_num_batched_tokens or default_tokens,
        dtype=serving_dtype(knobs.dtype, shape, device),
        kv_cache_dtype=knobs.kv_cache_dtype,
        tensor_parallel_size=knobs.tensor_parallel_size,
        enforce_eager=knobs.enforce_eager,
        cpu_kv_cache_bytes=ceil(knobs.cpu_kv_cache_gib * GIB),
    )


def batch_defaults(device: Device) -> tuple[int, int]:
    """(max_num_batched_tokens, max_num_seqs)"""
    if device.is_cpu:
        return 2048, 128
    if device.total_bytes >= HUGE_GPU_BYTES:
        return 16384, 1024
    if device.total_bytes >= LARGE_GPU_BYTES and "a100" not in device.name.lower():
        return 8192, 1024
    return 2048, 256


def serving_dtype(dtype: str, shape: ModelShape, device: Device) -> str:
    """`auto` is the checkpoint's, at 16 bit; and float16 where the GPU has no bfloat16."""
    if dtype != "auto":
        return dtype
    stored = shape.architecture.dtype
    dtype = "float16" if stored == "float16" else "bfloat16"
    lacks_bf16 = device.capability is not None and device.capability < FIRST_BF16
    return "float16" if lacks_bf16 else dtype


def can_split(shape: ModelShape, num_gpus: int) -> bool:
    """Heads and the MLP are divided evenly; KV heads are divided or repeated."""
    architecture = shape.architecture
    kv_heads = architecture.num_kv_heads
    return (
        architecture.num_heads % num_gpus == 0
        and (kv_heads % num_gpus == 0 or num_gpus % kv_heads == 0)
        and (architecture.intermediate_size or num_gpus) % num_gpus == 0
    )


def refuse_impossible_split(shape: ModelShape, num_gpus: int) -> None:
    if not can_split(shape, num_gpus):
        heads = shape.architecture.num_heads
        raise SettingsError(
            f"engine.tensor_parallel_size is {num_gpus}: {heads} attention heads and "
            f"{shape.architecture.num_kv_heads} KV heads cannot be split so."
        )
