"""A real model behind stock vLLM's server, behind our gateway, and in an engine without a server:
all at once on one device, each with a share of it, and measured in alternation.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, TextIO

from app.bench.arrivals import ClosedLoop
from app.bench.campaign import Campaign, Load, Measurement, Subject, rotated
from app.bench.gpu.offline_engine import Case, EnginePlan, OfflineEngine
from app.bench.lengths import Lengths
from app.bench.peers import MODEL_NAME, GatewayModel, plan_gateway, stock_command
from app.bench.server_process import QUIET_VLLM, ServerPlan, free_port, python_path
from app.bench.table import number, table_row
from app.bench.workload import draw_workload

# What the CPU build keeps keys and values in; a GPU's share is `gpu_share`.
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    **QUIET_VLLM,
}


@dataclass(frozen=True, slots=True)
class Served:
    """What all have in common. `gpu_share` is each one's: together less than 1."""

    model: Path
    folder: Path
    num_seqs: int
    max_model_len: int
    step_tokens: int
    gpu_share: float
    is_eager: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """vLLM's engine arguments; named where its defaults for a server and for `LLM` differ."""
        return {
            "max_num_seqs": self.num_seqs,
            "max_num_batched_tokens": self.step_tokens,
            "max_model_len": self.max_model_len,
            "gpu_memory_utilization": self.gpu_share,
            **({"enforce_eager": True} if self.is_eager else {}),
        }

    def stock(self) -> ServerPlan:
        port = free_port()
        words = ["--served-model-name", MODEL_NAME, "--host", "127.0.0.1", "--port", str(port)]
        for name, value in self.settings.items():
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
        environment = {**ENVIRONMENT, "PYTHONPATH": python_path()}
        return ServerPlan("stock", stock_command(self.model, words), port, environment)

    def gateway(self) -> ServerPlan:
        engine = (f"engine.{name}={str(value).lower()}" for name, value in self.settings.items())
        settings = (
            f"model.path={self.model}",
            f"model.served_name={MODEL_NAME}",
            "model.allow_unquantized=true",
            *engine,
        )
        return plan_gateway(GatewayModel("gateway", "none", settings, ENVIRONMENT), self.folder)

    def offline(self) -> EnginePlan:
        settings = {**self.settings, "enable_prefix_caching": True}
        return EnginePlan(self.model, settings, self.folder / "logs" / "offline.log", ENVIRONMENT)


@dataclass(frozen=True, slots=True)
class StreamLoad:
    """So many streams at once, each one answer."""

    streams: int
    prompt_words: int
    output_tokens: int

    def load(self) -> Load:
        prompt, answer = Lengths(self.prompt_words), Lengths(self.output_tokens)
        workload = draw_workload(self.streams, prompt, answer)
        return Load(f"{self.streams} streams", workload, ClosedLoop(self.streams))


@dataclass(frozen=True, slots=True)
class OfflineRun:
    load: str
    tokens_per_s: float


@dataclass
class Alternation:
    """The runs, in alternation; what was measured stays when a later run fails."""

    subjects: Sequence[Subject]
    engine: OfflineEngine | None = None
    measurements: list[Measurement] = field(default_factory=list)
    offline: list[OfflineRun] = field(default_factory=list)

    def warm_up(self, out: TextIO) -> None:
        campaign = Campaign(self.subjects, [], num_warm_up=16)
        for subject in self.subjects:
            campaign.warm_up(subject, out)

    def run_round(self, form: StreamLoad, repetition: int, deadline_s: float, out: TextIO) -> None:
        """Each server once, and then the engine alone, on prompts of the same length."""
        load, campaign = form.load(), Campaign(self.subjects, [])
        found = [
            campaign.measure(subject, load, repetition, out)
            for subject in rotated(self.subjects, repetition)
        ]
        self.measurements += found
        if self.engine is not None:
            prompt_tokens = found[0].summary.num_prompt_tokens // form.streams
            case = Case(form.streams, max(1, prompt_tokens), form.output_tokens, repeat=1)
            (run,) = self.engine.run(case, deadline_s)
            rate = form.streams * form.output_tokens / run["wall_s"]
            self.offline.append(OfflineRun(load.name, rate))


def share_lines(alternation: Alternation) -> Iterator[str]:
    """Each server's output beside what the engine alone gives."""
    names = [subject.target.name for subject in alternation.subjects]
    if not alternation.offline:
        return
    yield table_row("load", "engine alone, tokens/s", *(f"{name}, of it" for name in names))
    yield table_row(*["---"] * (2 + len(names)))
    for load in dict.fromkeys(run.load for run in alternation.offline):
        alone = median(run.tokens_per_s for run in alternation.offline if run.load == load)
        shares = [server_rate(alternation, load, name) / alone for name in names]
        yield table_row(load, number(alone), *(f"{share:.1%}" for share in shares))


def server_rate(alternation: Alternation, load: str, name: str) -> float:
    return median(
        each.summary.tokens_per_s
        for each in alternation.measurements
        if (each.load, each.target) == (load, name)
    )
