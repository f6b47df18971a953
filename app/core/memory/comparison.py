"""What was planned against what the engine holds."""

from dataclasses import dataclass

from app.core.loaded_model import LoadedModel
from app.core.memory.plan import Plan


@dataclass(frozen=True, slots=True)
class Compared:
    """One quantity, planned and actual; `goal` is the largest relative error that is good."""

    name: str
    planned: int
    actual: int
    goal: float

    @property
    def ratio(self) -> float:
        """Planned to actual: above 1 where more was planned than is held."""
        return self.planned / max(self.actual, 1)

    @property
    def error(self) -> float:
        return (self.planned - self.actual) / max(self.actual, 1)

    @property
    def is_within_goal(self) -> bool:
        return abs(self.error) <= self.goal


WEIGHTS_GOAL, KV_GOAL, TOTAL_GOAL = 0.01, 0.03, 0.05


def compare_loaded(plan: Plan, loaded: LoadedModel) -> tuple[Compared, ...]:
    """In bytes, over all GPUs that share the model. `peak` only where the engine measures it."""
    num_gpus = loaded.num_workers
    block = plan.kv_cache.block_bytes * num_gpus
    compared = [
        Compared("weights", plan.weights_bytes * num_gpus, loaded.parameter_bytes, WEIGHTS_GOAL),
        Compared("kv_cache", plan.num_blocks * block, loaded.num_kv_blocks * block, KV_GOAL),
    ]
    if "peak" in loaded.gpu_memory:
        planned = plan.overhead("activations") + plan.overhead("CUDA graphs")
        peak = loaded.gpu_memory["peak"]
        compared.append(Compared("peak", planned * num_gpus, peak * num_gpus, TOTAL_GOAL))
    return tuple(compared)
