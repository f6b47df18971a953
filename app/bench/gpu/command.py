"""`python -m app bench-gpu`: the engine alone on a GPU, mode beside mode, and the roofline."""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.bench.comparison import write_section
from app.bench.gpu.modes import ORDER, PREFILL_LENGTHS, SEQUENCES, Loads, Mode, parse_modes
from app.bench.gpu.offline_engine import EngineError, EnginePlan, OfflineEngine, read_ceilings
from app.bench.gpu.random_checkpoint import write_checkpoint
from app.bench.gpu.results import Journal, read_journal
from app.bench.gpu.tables import page_lines
from app.core.errors import SettingsError
from app.core.llama_shape import SHAPES
from app.core.number_arguments import read_numbers

FOLDER = Path(".cache/bench/gpu")
SECTION = "engine"
LEAST_S = 30  # no engine is started for less


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what is measured")
    what.add_argument("--shape", choices=SHAPES, default="llama-8b", help="default: %(default)s")
    what.add_argument("--modes", default=ORDER, help="in this order (default: %(default)s)")
    what.add_argument("--sequences", default=SEQUENCES, help="in this order (default: %(default)s)")
    what.add_argument("--prompt-tokens", type=int, default=128, help="default: %(default)s")
    what.add_argument("--output-tokens", type=int, default=256, help="default: %(default)s")
    what.add_argument("--prefill", default=PREFILL_LENGTHS, help="default: %(default)s")
    what.add_argument("--prefill-tokens", type=int, default=65536, help="default: %(default)s")
    what.add_argument("--repeat", type=int, default=3, help="show medians (default: %(default)s)")
    what.add_argument(
        "--engine", default="{}", metavar="JSON", help="vLLM's arguments, for every mode alike"
    )
    limits = parser.add_argument_group("time")
    limits.add_argument(
        "--limit-s", type=float, default=3600, help="for all (default: %(default)s)"
    )
    limits.add_argument("--mode-limit-s", type=float, default=420, help="default: %(default)s")
    limits.add_argument("--no-ceilings", action="store_true", help="leave the roofline out")
    out = parser.add_argument_group("output")
    out.add_argument("--checkpoints", type=Path, default=FOLDER, help="default: %(default)s")
    out.add_argument("--results", type=Path, default=FOLDER / "results.jsonl", help="is added to")
    out.add_argument("--write", type=Path, help="put the tables into this Markdown file")
    out.add_argument("--tables-only", action="store_true", help="of results that are there")


@dataclass(frozen=True)
class Measuring:
    """What all modes have in common. `deadline_s` is of time.monotonic()."""

    shape: str
    loads: Loads
    settings: dict[str, Any]
    checkpoints: Path
    journal: Journal
    deadline_s: float
    mode_limit_s: float

    def run(self, mode: Mode) -> None:
        """Raises EngineError where the engine failed, or the time was too short; what was measured
        until then is in the journal."""
        folder = self.checkpoints / f"{self.shape}-{mode.weights}"
        write_checkpoint(folder, SHAPES[self.shape], mode.weights)
        log = self.journal.path.parent / "logs" / f"{mode.name.replace('/', '-')}.log"
        deadline_s = min(self.deadline_s, time.monotonic() + self.mode_limit_s)
        with OfflineEngine(EnginePlan(folder, self.engine_settings(mode), log)) as engine:
            loaded = engine.loaded(deadline_s)
            self.journal.add("loaded", **self.describe(mode), **loaded)
            for case in self.loads.cases():
                runs = engine.run(case, deadline_s)
                self.journal.add("case", mode=mode.name, case=case.as_json, runs=runs)
                print(f"{mode.name} {case.as_json}: {runs[-1]['wall_s']:.2f} s", flush=True)

    def describe(self, mode: Mode) -> dict[str, Any]:
        return {
            "mode": mode.name,
            "shape": self.shape,
            "weights": mode.weights,
            "kv_value_bytes": mode.kv_value_bytes,
            "settings": self.settings,
        }

    def engine_settings(self, mode: Mode) -> dict[str, Any]:
        return {
            "dtype": "bfloat16",
            "max_model_len": self.loads.longest,
            "max_num_seqs": max(self.loads.sequences),
            "max_num_batched_tokens": 8192,
            "gpu_memory_utilization": 0.9,
            "kv_cache_dtype": mode.kv_cache_dtype,
            **self.settings,
        }


def run(arguments: argparse.Namespace) -> int:
    """Exits with 1 where a mode failed."""
    failures = 0 if arguments.tables_only else measure(arguments)
    lines = list(page_lines(read_journal(arguments.results)))
    print("\n".join(lines))
    if arguments.write:
        write_section(arguments.write, lines, SECTION)
    return 1 if failures else 0


def measure(arguments: argparse.Namespace) -> int:
    """The number of modes that failed, and one for the ceilings."""
    modes, journal = parse_modes(arguments.modes), Journal(arguments.results)
    measuring = Measuring(
        shape=arguments.shape,
        loads=read_loads(arguments),
        settings=read_settings(arguments.engine),
        checkpoints=arguments.checkpoints,
        journal=journal,
        deadline_s=time.monotonic() + arguments.limit_s,
        mode_limit_s=arguments.mode_limit_s,
    )
    failures = 0 if arguments.no_ceilings else int(try_ceilings(measuring))
    return failures + sum(try_mode(measuring, mode) for mode in modes)


def try_ceilings(measuring: Measuring) -> bool:
    """Whether they failed; a table without them lacks its roofline and nothing else."""
    log = measuring.journal.path.parent / "logs" / "ceilings.log"
    try:
        measuring.journal.add("ceilings", **read_ceilings(measuring.mode_limit_s, log))
    except EngineError as error:
        print(f"ceilings: {error.sentence}", flush=True)
        return True
    return False


def try_mode(measuring: Measuring, mode: Mode) -> bool:
    """Whether it failed; the next mode does not depend on it."""
    try:
        if measuring.deadline_s - time.monotonic() < LEAST_S:
            raise EngineError("no time was left for it")
        measuring.run(mode)
    except EngineError as error:
        print(f"{mode.name}: {error.sentence}", flush=True)
        measuring.journal.add("failed", mode=mode.name, reason=error.sentence)
        return True
    return False


def read_loads(arguments: argparse.Namespace) -> Loads:
    return Loads(
        sequences=read_numbers(arguments.sequences, "--sequences"),
        prompt_tokens=arguments.prompt_tokens,
        output_tokens=arguments.output_tokens,
        prefill_lengths=read_numbers(arguments.prefill, "--prefill"),
        prefill_tokens=arguments.prefill_tokens,
        repeat=arguments.repeat,
    )


def read_settings(text: str) -> dict[str, Any]:
    try:
        settings = json.loads(text)
    except ValueError:
        settings = None
    if not isinstance(settings, dict):
        raise SettingsError("--engine has to be a JSON object of vLLM's engine arguments.")
    return settings
