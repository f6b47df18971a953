"""An executor without a model: vLLM at a GPU's pace, on any machine.

    --distributed-executor-backend app.engine.simulated.SimulatedExecutor

Real: everything of vLLM but the model. The API process, the engine process, their sockets, the
scheduler, the KV cache's bookkeeping with prefix caching and preemption, grammars, detokenizing.

Not real: the model and its worker. No weight is loaded and no KV memory is held; a step lasts
`step_ms` + `token_us` per token by the clock and uses no CPU meanwhile, as when a GPU computes.
Tokens come from a text, by the prompt and the seed alone, so that answers can be compared between
servers; temperature and penalties change nothing. A structured answer keeps to its grammar and is
the shortest there is. There are no logprobs, adapters, embeddings or multi-modal inputs. Absolute
speeds are what the settings say and prove nothing about a GPU; what a server needs of the CPU is
real. Behind the gateway it needs `model.allow_unquantized=true`, as there is no int8 kernel.

Settings (see SimulatedSettings): the environment variable SIMULATED_DEVICE, or the key
`simulated_device` in vLLM's `--additional-config`, which wins.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
from vllm.sampling_params import SamplingParams
from vllm.tokenizers.registry import cached_tokenizer_from_config
from vllm.utils.import_utils import resolve_obj_by_qualname
from vllm.v1.core.sched.output import GrammarOutput, SchedulerOutput
from vllm.v1.executor.abstract import Executor
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.serial_utils import run_method
from vllm.v1.worker.worker_base import CompilationTimes

from app.engine.simulated_answers import TEXT, SimulatedAnswers
from app.engine.simulated_clock import SimulatedClock
from app.engine.simulated_settings import (
    VARIABLE,
    SimulatedSettings,
    parse_json_settings,
    parse_settings,
)

CLOSING = '"}]:,{[0'
DEFAULT_BLOCK_SIZE = 16


class SimulatedModelRunner:
    """Has a model without layers: who asks how it is quantized is told that it is not."""

    def get_model(self) -> torch.nn.Module:
        return torch.nn.Module()


class SimulatedWorker:
    """Answers what vLLM asks of a worker besides computing steps."""

    def __init__(self, vllm_config: Any, settings: SimulatedSettings) -> None:
        self.vllm_config = vllm_config
        self.settings = settings
        self.model_runner = SimulatedModelRunner()

    def get_kv_cache_spec(self) -> dict[str, KVCacheSpec]:
        model, parallel = self.vllm_config.model_config, self.vllm_config.parallel_config
        spec = FullAttentionSpec(
            block_size=self.vllm_config.cache_config.block_size or DEFAULT_BLOCK_SIZE,
            num_kv_heads=model.get_num_kv_heads(parallel),
            head_size=model.get_head_size(),
            dtype=model.dtype,
        )
        return {f"layers.{index}.attn": spec for index in range(model.get_num_layers(parallel))}

    def determine_available_memory(self) -> int:
        told: int | None = self.vllm_config.cache_config.kv_cache_memory_bytes
        return told or int(self.settings.kv_cache_gib * 2**30)

    def get_supported_tasks(self) -> tuple[str, ...]:
        return ("generate",)

    def get_supported_kv_cache_layouts(self) -> list[str]:
        return ["LBNHC"]

    def set_kv_cache_layout(self, layout_name: str) -> None:
        pass

    def initialize_from_config(self, kv_cache_configs: list[KVCacheConfig]) -> None:
        pass

    def update_max_model_len(self, max_model_len: int) -> None:
        self.vllm_config.model_config.max_model_len = max_model_len

    def compile_or_warm_up_model(self) -> CompilationTimes:
        return CompilationTimes(language_model=0.0, encoder=0.0)

    def supports_draft_weight_updates(self) -> bool:
        return False

    def execute_dummy_batch(self) -> None:
        pass

    def reset_mm_cache(self) -> None:
        pass

    def reset_encoder_cache(self) -> None:
        pass

    def synchronize_device(self) -> None:
        pass

    def shutdown(self) -> None:
        pass


class PacedOutput(Future[ModelRunnerOutput]):
    """A step's output, there when the device is done with it."""

    def __init__(self, output: ModelRunnerOutput, done_s: float) -> None:
        super().__init__()
        self._done_s = done_s
        self.set_result(output)

    def result(self, timeout: float | None = None) -> ModelRunnerOutput:
        time.sleep(max(0.0, self._done_s - time.monotonic()))
        return super().result(timeout)


class SimulatedExecutor(Executor):  # type: ignore[misc]
    @classmethod
    def supports_async_scheduling(cls) -> bool:
        return True

    def _init_executor(self) -> None:
        self.settings = read_settings(self.vllm_config.additional_config)
        self.worker = make_worker(self.vllm_config, self.settings)
        self.answers = make_answers(self.model_config, self.settings)
        self._clock = SimulatedClock(self.settings)
        self._step: SchedulerOutput | None = None

    def check_health(self) -> None:
        pass

    def collective_rpc(
        self,
        method: str | Callable[..., Any],
        timeout: float | None = None,  # noqa: ARG002 - nothing here waits
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        non_block: bool = False,
    ) -> Any:
        results = [run_method(self.worker, method, args, kwargs or {})]
        return finished(results) if non_block else results

    def execute_model(self, scheduler_output: SchedulerOutput, non_block: bool = False) -> Any:
        """Starts the step. The output is `sample_tokens`' to give, as with every vLLM executor; a
        step without tokens has nothing to sample.
        """
        self.note_requests(scheduler_output)
        if scheduler_output.total_num_scheduled_tokens == 0:
            empty = ModelRunnerOutput(req_ids=[], req_id_to_index={})
            return finished(empty) if non_block else empty
        self._clock.start(scheduler_output.total_num_scheduled_tokens, time.monotonic())
        self._step = scheduler_output
        return finished(None) if non_block else None

    def sample_tokens(
        self, grammar_output: GrammarOutput | None, non_block: bool = False
    ) -> ModelRunnerOutput | Future[ModelRunnerOutput]:
        if self._step is None:
            raise RuntimeError("sample_tokens without a step")
        step, self._step = self._step, None
        output = PacedOutput(self.output_of(step, grammar_output), self._clock.done_s)
        return output if non_block else output.result()

    def note_requests(self, step: SchedulerOutput) -> None:
        self.answers.forget(step.finished_req_ids)
        for request in step.scheduled_new_reqs:
            sampling = request.sampling_params
            self.answers.begin(
                request.req_id,
                request.prompt_token_ids or [],
                sampling.seed if sampling else None,
                self.answer_length(sampling),
            )

    def answer_length(self, sampling: SamplingParams | None) -> int | None:
        if self.settings.answer_tokens is None or (sampling and sampling.ignore_eos):
            return None
        return max(self.settings.answer_tokens, sampling.min_tokens if sampling else 0)

    def output_of(self, step: SchedulerOutput, grammar: GrammarOutput | None) -> ModelRunnerOutput:
        num_computed = {
            request.req_id: request.num_computed_tokens for request in step.scheduled_new_reqs
        }
        cached = step.scheduled_cached_reqs
        num_computed.update(zip(cached.req_ids, cached.num_computed_tokens, strict=True))
        for request_id, num_tokens in step.num_scheduled_tokens.items():
            num_computed[request_id] += num_tokens
        return ModelRunnerOutput(
            req_ids=list(num_computed),
            req_id_to_index={request_id: index for index, request_id in enumerate(num_computed)},
            sampled_token_ids=self.answers.next_tokens(num_computed, masks_of(grammar)),
        )


def masks_of(grammar: GrammarOutput | None) -> dict[str, list[int]]:
    if grammar is None:
        return {}
    rows = grammar.grammar_bitmask.tolist()
    return dict(zip(grammar.structured_output_request_ids, rows, strict=False))


def finished(result: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(result)
    return future


def read_settings(additional_config: Any) -> SimulatedSettings:
    told = (
        additional_config.get("simulated_device") if isinstance(additional_config, dict) else None
    )
    if told is not None:
        return parse_settings(told)
    return parse_json_settings(os.environ.get(VARIABLE) or "{}")


def make_worker(vllm_config: Any, settings: SimulatedSettings) -> SimulatedWorker:
    """With the methods of the configured worker extension, as a real worker has them."""
    extension = vllm_config.parallel_config.worker_extension_cls
    if not extension:
        return SimulatedWorker(vllm_config, settings)
    bases = (SimulatedWorker, resolve_obj_by_qualname(extension))
    worker: SimulatedWorker = type("ExtendedSimulatedWorker", bases, {})(vllm_config, settings)
    return worker


def make_answers(model_config: Any, settings: SimulatedSettings) -> SimulatedAnswers:
    tokenizer = cached_tokenizer_from_config(model_config)
    text = Path(settings.text_file).read_text() if settings.text_file else TEXT
    closing = [tokenizer.encode(character, add_special_tokens=False) for character in CLOSING]
    return SimulatedAnswers(
        tokenizer.encode(text, add_special_tokens=False),
        tokenizer.eos_token_id,
        [tokens[0] for tokens in closing if len(tokens) == 1],
    )
