"""An engine without a server, for measurements: `python -m app.engine.offline MODEL SETTINGS`.

SETTINGS is a JSON object of vLLM's engine arguments. Says what it loaded, then reads cases from
standard input, a JSON object on each line, and reports the runs of each; ends with its input.

A process of its own for each engine: one starts on free memory, and one that fails or hangs takes
nothing with it.
"""

import json
import random
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from statistics import median
from typing import Any

from app.core.report_line import tell
from app.engine.device import describe_device

WARM_UP_TOKENS = 8
WORKER_EXTENSION = "app.engine.worker_extension.WorkerExtension"


def main(directory: str, settings: str) -> None:
    from vllm import LLM  # the worker processes import this file too, and have no use for it

    arguments = {
        "model": directory,
        "skip_tokenizer_init": True,
        "disable_log_stats": True,
        "enable_prefix_caching": False,
        "worker_extension_cls": WORKER_EXTENSION,
        **json.loads(settings),
    }
    started = time.perf_counter()
    llm = LLM(**arguments)
    start_s = time.perf_counter() - started
    tell({"start_s": start_s, **describe_engine(llm.llm_engine), **describe_device()})
    for line in sys.stdin:
        case = json.loads(line)
        work = profile_case if "profile" in case else run_case
        tell({"runs": work(llm.llm_engine, **case)})


def describe_engine(engine: Any) -> dict[str, Any]:
    config = engine.vllm_config
    loaded: dict[str, Any] = engine.collective_rpc("report_loaded_model")[0]
    return {
        "layers": loaded["layers"],
        "parameter_bytes": loaded["parameter_bytes"],
        "gpu_memory": loaded["gpu_memory"],
        "kv_tokens": config.cache_config.kv_cache_size_tokens,
        "kv_dtype": str(config.cache_config.cache_dtype),
        "compile_mode": config.compilation_config.mode.name,
        "graph_mode": config.compilation_config.cudagraph_mode.name,
        "step_tokens": config.scheduler_config.max_num_batched_tokens,
    }


def run_case(
    engine: Any, num_seqs: int, prompt_tokens: int, output_tokens: int, repeat: int
) -> list[dict[str, float]]:
    """Sequences that all come at once, `repeat` times, after a short one that is not counted."""
    dice = random.Random(num_seqs)  # noqa: S311 - a workload, not a secret
    sizes = [min(output_tokens, WARM_UP_TOKENS), *[output_tokens] * repeat]
    runs = []
    for size in sizes:
        prompts = list(draw_prompts(engine, num_seqs, prompt_tokens, dice))
        runs.append(describe_run(num_seqs, generate(engine, prompts, size)))
    return runs[1:]


def profile_case(
    engine: Any, num_seqs: int, prompt_tokens: int, output_tokens: int, profile: str, steps: int
) -> list[dict[str, float]]:
    """One run of which `steps` steps from the middle are recorded, in a trace whose name begins
    with `profile`; the engine's settings say where. The run is slower for it."""
    run_case(engine, num_seqs, prompt_tokens, output_tokens, repeat=1)
    prompts = list(draw_prompts(engine, num_seqs, prompt_tokens, random.Random(1)))  # noqa: S311
    engine.start_profile(profile, delay_iterations=output_tokens // 2, max_iterations=steps)
    ends = generate(engine, prompts, output_tokens)
    engine.stop_profile()
    return [describe_run(num_seqs, ends)]


def draw_prompts(
    engine: Any, num_seqs: int, prompt_tokens: int, dice: random.Random
) -> Iterator[list[int]]:
    vocab_size = engine.model_config.get_vocab_size()
    for _ in range(num_seqs):
        yield [dice.randrange(vocab_size) for _ in range(prompt_tokens)]


def generate(engine: Any, prompts: list[list[int]], num_tokens: int) -> list[float]:
    """As `LLM.generate` does it; the times at which its steps ended, in seconds after the first
    request was handed in."""
    from vllm import SamplingParams
    from vllm.inputs.engine import tokens_input
    from vllm.sampling_params import RequestOutputKind

    started = time.perf_counter()
    for number, prompt in enumerate(prompts):
        parameters = SamplingParams(
            max_tokens=num_tokens,
            ignore_eos=True,
            temperature=0.0,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        engine.add_request(f"{started}-{number}", tokens_input(prompt), parameters)
    ends = []
    while engine.has_unfinished_requests():
        engine.step()
        ends.append(time.perf_counter() - started)
    return ends


def describe_run(num_seqs: int, ends: list[float]) -> dict[str, float]:
    """`wall_s` for all; and of the middle half of the steps, where every sequence has had its
    prompt and none has ended: the median step, the 99th percentile, and tokens per second."""
    run = {"wall_s": ends[-1], "num_steps": len(ends)}
    first, last = len(ends) // 4, 3 * len(ends) // 4
    if last - first < 2:
        return run
    steps = sorted(after - before for before, after in pairwise(ends[first : last + 1]))
    rate = num_seqs * len(steps) / (ends[last] - ends[first])
    p99 = steps[min(len(steps) - 1, int(0.99 * len(steps)))]
    return {**run, "step_s": median(steps), "step_p99_s": p99, "decoded_per_s": rate}


if __name__ == "__main__":
    main(*sys.argv[1:])
