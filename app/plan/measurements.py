"""What engines were measured to hold, kept in docs/memory-measured.json, beside what is planned."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.core.checkpoint import Checkpoint, parse_architecture
from app.core.checkpoint_scheme import parse_scheme
from app.core.gpus import GIB
from app.core.memory.comparison import KV_GOAL, TOTAL_GOAL, WEIGHTS_GOAL, Compared
from app.core.memory.knobs import Device, Knobs
from app.core.memory.plan import Plan, make_plan
from app.core.memory.shape import shape_of
from app.core.memory.tensors import expected_tensors
from app.plan.bench_models import COMBINATIONS, Combination

MEASURED = Path(__file__).parents[2] / "docs" / "memory-measured.json"
GPU_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Measurement:
    """One engine start: the combination's name, the device, and what the engine said (bytes)."""

    combination: str
    device: str
    total_bytes: int
    capability: tuple[int, int] | None
    parameter_bytes: int
    num_blocks: int
    kv_tokens: int
    gpu_memory: dict[str, int]

    @property
    def is_cpu(self) -> bool:
        return self.capability is None


def plan_combination(combination: Combination, device: Device) -> Plan:
    config = combination.config_json
    architecture, scheme = parse_architecture(config, "config"), parse_scheme(config, "config")
    checkpoint = Checkpoint(
        combination.name, architecture, scheme, (), expected_tensors(architecture, scheme)
    )
    return make_plan(shape_of(checkpoint, config), device, knobs_of(combination))


def knobs_of(combination: Combination) -> Knobs:
    return Knobs(
        gpu_memory_utilization=GPU_SHARE,
        max_model_len=combination.max_model_len,
        max_num_seqs=combination.max_num_seqs,
        max_num_batched_tokens=combination.max_num_batched_tokens,
        kv_cache_dtype=combination.kv_cache_dtype,
        cpu_kv_cache_gib=combination.kv_bytes / GIB,
    )


def compare(measured: Measurement) -> tuple[Compared, ...]:
    """Today's plan for what was measured, against it."""
    plan = plan_measured(measured)
    compared = [
        Compared("weights", plan.weights_bytes, measured.parameter_bytes, WEIGHTS_GOAL),
        Compared("KV tokens", plan.kv_tokens, measured.kv_tokens, KV_GOAL),
    ]
    if not measured.is_cpu:
        taken = measured.gpu_memory["consumed"] + measured.gpu_memory["peak"]
        planned = plan.budget_bytes - plan.kv_bytes
        compared.append(Compared("total", planned, taken, TOTAL_GOAL))
    return tuple(compared)


def plan_measured(measured: Measurement) -> Plan:
    combination = next(each for each in COMBINATIONS if each.name == measured.combination)
    total = measured.total_bytes
    device = Device(measured.device, total, total, measured.capability)
    return plan_combination(combination, device)


def read_measurements(path: Path = MEASURED) -> list[Measurement]:
    if not path.exists():
        return []
    return [from_values(each) for each in json.loads(path.read_text())]


def from_values(values: dict[str, Any]) -> Measurement:
    capability = values["capability"]
    return Measurement(**{**values, "capability": tuple(capability) if capability else None})


def keep(measured: Measurement, path: Path = MEASURED) -> None:
    """Add a row, in the place of an older one of the same combination and device."""
    key = (measured.device, measured.combination)
    rows = {(each.device, each.combination): each for each in read_measurements(path)}
    rows[key] = measured
    values = [asdict(row) for row in rows.values()]
    path.write_text(json.dumps(values, indent=1) + "\n")


def measured_table(measurements: Sequence[Measurement]) -> Iterator[str]:
    """A Markdown table of every measurement, planned against actual."""
    yield "| device | combination | weights | planned | error | KV tokens | planned | error |"
    yield "|---|---|--:|--:|--:|--:|--:|--:|"
    for measured in measurements:
        weights, tokens, *_ = compare(measured)
        yield (
            f"| {measured.device} | {measured.combination} | {weights.actual:,} | "
            f"{weights.planned:,} | {weights.error:+.2%} | {tokens.actual:,} | "
            f"{tokens.planned:,} | {tokens.error:+.2%} |"
        )


def gpu_table(measurements: Sequence[Measurement]) -> Iterator[str]:
    """What only a GPU tells: each of the planner's terms. Empty without such measurements."""
    measured_on_gpu = [each for each in measurements if not each.is_cpu]
    if not measured_on_gpu:
        return
    yield "| device | combination | part | planned GiB | actual GiB | error |"
    yield "|---|---|---|--:|--:|--:|"
    for measured in measured_on_gpu:
        for part in compare_parts(measured):
            yield (
                f"| {measured.device} | {measured.combination} | {part.name} | "
                f"{part.planned / GIB:.3f} | {part.actual / GIB:.3f} | {part.error:+.1%} |"
            )


def compare_parts(measured: Measurement) -> tuple[Compared, ...]:
    """Each term of today's plan for a GPU beside what vLLM's worker counted. `everything` is what
    is gone of the card once the engine runs, the KV cache included."""
    plan, gpu = plan_measured(measured), measured.gpu_memory
    rotary, runtime = plan.overhead("rotary table"), plan.overhead("runtime")
    beside = gpu["consumed"] - measured.parameter_bytes
    activations = gpu["peak"] - gpu["graphs"]
    graphs = plan.overhead("CUDA graphs")
    return (
        Compared("weights", plan.weights_bytes, measured.parameter_bytes, WEIGHTS_GOAL),
        Compared("rotary table and runtime", rotary + runtime, beside, TOTAL_GOAL),
        Compared("activations", plan.overhead("activations"), activations, TOTAL_GOAL),
        Compared("CUDA graphs", graphs, gpu["graphs"], TOTAL_GOAL),
        compare(measured)[-1],
        Compared("KV cache", plan.kv_bytes, gpu["kv_available"], KV_GOAL),
        Compared("everything", plan.budget_bytes, gpu["held"], TOTAL_GOAL),
    )
