"""`python -m app profile-gpu`: where the time of a decoding step goes, kind of kernel by kind."""

import argparse
import time
from pathlib import Path

from app.bench.gpu.command import FOLDER, read_settings
from app.bench.gpu.modes import Mode, parse_modes
from app.bench.gpu.offline_engine import Case, EnginePlan, OfflineEngine
from app.bench.gpu.random_checkpoint import write_checkpoint
from app.bench.gpu.trace import TraceError, profile_lines, read_events
from app.core.llama_shape import SHAPES
from app.core.number_arguments import read_numbers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shape", choices=SHAPES, default="llama-8b", help="default: %(default)s")
    parser.add_argument("--modes", default="int8,bf16", help="default: %(default)s")
    parser.add_argument("--sequences", default="64,256", help="default: %(default)s")
    parser.add_argument("--prompt-tokens", type=int, default=128, help="default: %(default)s")
    parser.add_argument("--output-tokens", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=8, help="to record (default: %(default)s)")
    parser.add_argument("--engine", default="{}", metavar="JSON", help="vLLM's arguments")
    parser.add_argument("--checkpoints", type=Path, default=FOLDER, help="default: %(default)s")
    parser.add_argument("--traces", type=Path, default=FOLDER / "traces", help="are kept there")
    parser.add_argument("--limit-s", type=float, default=420, help="for each mode")


def run(arguments: argparse.Namespace) -> int:
    modes = parse_modes(arguments.modes)
    sizes = read_numbers(arguments.sequences, "--sequences")
    arguments.traces.mkdir(parents=True, exist_ok=True)
    for mode in modes:
        with OfflineEngine(plan(arguments, mode, max(sizes))) as engine:
            deadline_s = time.monotonic() + arguments.limit_s
            engine.loaded(deadline_s)
            for size in sizes:
                name = f"{mode.name.replace('/', '-')}-{size}"
                case = Case(size, arguments.prompt_tokens, arguments.output_tokens)
                engine.profile(case, name, arguments.steps, deadline_s)
                events = read_events(newest_trace(arguments.traces, name))
                title = f"{mode.name}, {size} sequences"
                print("\n".join(profile_lines(title, events, arguments.steps)), "\n", flush=True)
    return 0


def plan(arguments: argparse.Namespace, mode: Mode, num_seqs: int) -> EnginePlan:
    folder = arguments.checkpoints / f"{arguments.shape}-{mode.weights}"
    write_checkpoint(folder, SHAPES[arguments.shape], mode.weights)
    profiler = {
        "profiler": "torch",
        "torch_profiler_dir": str(arguments.traces.resolve()),
        "torch_profiler_with_stack": False,
    }
    settings = {
        "dtype": "bfloat16",
        "max_model_len": arguments.prompt_tokens + arguments.output_tokens,
        "max_num_seqs": num_seqs,
        "max_num_batched_tokens": 8192,
        "kv_cache_dtype": mode.kv_cache_dtype,
        "profiler_config": profiler,
        **read_settings(arguments.engine),
    }
    return EnginePlan(folder, settings, arguments.traces / f"{mode.weights}.log")


def newest_trace(folder: Path, name: str) -> Path:
    """A rank's trace begins with the name that was given, and an underscore."""
    found = sorted(folder.glob(f"{name}_*.json*"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise TraceError(f"The engine wrote no trace {name} into {folder}.")
    return found[-1]
