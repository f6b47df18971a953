"""The checks before a model is loaded, on this machine; `app.main` calls them."""

import logging
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

from app.core.engine_options import EngineOptions, name_of
from app.core.errors import CheckpointError
from app.core.gpus import Gpu
from app.core.memory.advice import MEAN_TOKENS, Wanted, advise, cost_of_choices
from app.core.memory.knobs import Device, Knobs
from app.core.memory.plan import Plan, make_plan
from app.core.memory.preflight import (
    refuse_driver,
    refuse_generation,
    refuse_memory,
    scheme_named,
)
from app.core.memory.shape import ModelShape, UnplannableError
from app.core.preflight import refuse_other_checkpoint
from app.plan.checkpoint_source import read_shape
from app.plan.gpu_detection import detect_gpus
from app.plan.machine import cpu_device, installed_build

logger = logging.getLogger("gateway.plan")
# vLLM's arguments after which its memory is not what is planned here.
UNPLANNED_ARGUMENTS = frozenset(
    {
        *("block-size", "compilation-config", "cpu-offload-gb", "data-parallel-size"),
        *("distributed-executor-backend", "hf-overrides", "kv-cache-memory-bytes", "load-format"),
        *("num-gpu-blocks-override", "pipeline-parallel-size", "quantization"),
        *("speculative-config",),
    }
)


def check_start(options: EngineOptions, wanted_scheme: str | None) -> Plan | None:
    """Raises a StartError of its own kind for each thing that cannot work on this machine.

    Returns the plan, or None where there is none: the hub cannot be read here (vLLM may have its
    own way to the model), or the model or the extra arguments are beyond what can be planned.
    """
    gpus = find_gpus(options.tensor_parallel_size) if installed_build() == "cuda" else ()
    for gpu in gpus[:1]:
        if wanted_scheme is not None:
            refuse_generation(gpu, scheme_named(wanted_scheme), options.dtype)
    shape = find_shape(options)
    if shape is None:
        return None
    refuse_other_checkpoint(shape.scheme, wanted_scheme, options.model)
    for gpu in gpus[:1]:
        refuse_generation(gpu, shape.scheme, options.dtype)
    if UNPLANNED_ARGUMENTS & {name_of(word) for word in shlex.split(options.extra_args)}:
        return None
    return check_memory(shape, gpus, knobs_of(options))


def find_gpus(wanted: int) -> tuple[Gpu, ...]:
    machine = detect_gpus()
    refuse_driver(machine.driver, len(machine.gpus), wanted)
    return machine.gpus[:wanted]


def find_shape(options: EngineOptions) -> ModelShape | None:
    """A local checkpoint that cannot be read is an error; one on the hub only means no plan."""
    try:
        return read_shape(options.model, options.revision)
    except CheckpointError as error:
        if Path(options.model).is_dir() and not isinstance(error, UnplannableError):
            raise
        logger.warning("no memory plan", extra={"reason": error.sentence})
        return None


def check_memory(shape: ModelShape, gpus: tuple[Gpu, ...], knobs: Knobs) -> Plan:
    device = Device.of(min(gpus, key=lambda gpu: gpu.free_bytes)) if gpus else cpu_device()
    plan = make_plan(shape, device, knobs)
    logger.info("memory plan", extra=plan_summary(plan))
    if cost := cost_of_choices(plan, make_plan(shape, device, advised_for(shape, device, knobs))):
        logger.info(cost)
    if warning := refuse_memory(plan, knobs):
        logger.warning(warning)
    return plan


def advised_for(shape: ModelShape, device: Device, knobs: Knobs) -> Knobs:
    """The planner's choice on the same number of GPUs, in the same types."""
    wanted = Wanted(
        dtype=knobs.dtype,
        kv_cache_dtype=knobs.kv_cache_dtype,
        tensor_parallel_size=knobs.tensor_parallel_size,
        enforce_eager=knobs.enforce_eager,
        cpu_kv_cache_gib=knobs.cpu_kv_cache_gib,
    )
    return advise(shape, device, wanted, MEAN_TOKENS)


def knobs_of(options: EngineOptions) -> Knobs:
    return Knobs(**{field.name: getattr(options, field.name) for field in fields(Knobs)})


def plan_summary(plan: Plan) -> dict[str, Any]:
    """For the log and /admin/status, in bytes."""
    return {
        "device": plan.device.name,
        "weights_bytes": plan.weights_bytes,
        "kv_cache_bytes": plan.kv_bytes,
        "kv_tokens": plan.kv_tokens,
        "max_model_len": plan.settings.max_model_len,
        "full_sequences": plan.full_sequences,
        "fits": plan.fits,
        "is_estimate": not plan.device.is_cpu,
    }
