"""`python -m app bench-served`: on a real model, the gateway, stock vLLM and the engine alone."""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from app.bench.comparison import comparison_lines, write_section
from app.bench.gpu.command import FOLDER
from app.bench.gpu.offline_engine import EngineError, OfflineEngine
from app.bench.gpu.random_checkpoint import KINDS, write_checkpoint
from app.bench.gpu.results import ResultsError
from app.bench.gpu.served import Alternation, Served, StreamLoad, share_lines
from app.bench.peers import MODEL_NAME
from app.bench.report import report
from app.bench.running_servers import running_servers
from app.bench.server_process import ServerPlan
from app.bench.table import complaint_lines
from app.core.errors import SettingsError
from app.core.llama_shape import SHAPES
from app.core.number_arguments import read_numbers

SECTION = "served"
BASE = "stock"
OFFLINE = "offline"
TABLES = "tables"
PEERS = (BASE, "gateway", OFFLINE)
COLUMNS = {
    "tokens/s": "output_tokens_per_s",
    "first token p50 ms": "first_token_p50_ms",
    "p95 ms": "first_token_p95_ms",
    "p99 ms": "first_token_p99_ms",
    "between chunks p99 ms": "gap_p99_ms",
    "CPU µs/token": "server_cpu_us_per_token",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, help="default: a random one of --shape and --kind")
    parser.add_argument("--shape", choices=SHAPES, default="llama-8b", help="default: %(default)s")
    parser.add_argument("--kind", choices=KINDS, default="int8", help="default: %(default)s")
    parser.add_argument("--peers", default=",".join(PEERS), help="default: %(default)s")
    parser.add_argument("--streams", default="64,256,512", help="default: %(default)s")
    parser.add_argument("--prompt-words", type=int, default=40, help="default: %(default)s")
    parser.add_argument("--output-tokens", type=int, default=256, help="default: %(default)s")
    parser.add_argument("--repeat", type=int, default=3, help="rounds (default: %(default)s)")
    parser.add_argument("--max-model-len", type=int, default=4096, help="default: %(default)s")
    parser.add_argument("--step-tokens", type=int, default=8192, help="default: %(default)s")
    parser.add_argument("--gpu-share", type=float, default=0.28, help="of each peer")
    parser.add_argument("--eager", action="store_true", help="without compilation and graphs")
    parser.add_argument("--limit-s", type=float, default=3600, help="default: %(default)s")
    parser.add_argument("--checkpoints", type=Path, default=FOLDER, help="default: %(default)s")
    parser.add_argument("--json", type=Path, default=FOLDER / "served.json")
    parser.add_argument("--tables-only", action="store_true", help="of results that are there")
    parser.add_argument("--write", type=Path, help="put the tables into this Markdown file")


def run(arguments: argparse.Namespace) -> int:
    """Exits with 1 where a request failed, or the time did not suffice."""
    is_whole = True if arguments.tables_only else measure(arguments)
    lines = read_tables(arguments.json)
    print("\n".join(lines))
    if arguments.write:
        write_section(arguments.write, lines, SECTION)
    return 0 if is_whole else 1


def measure(arguments: argparse.Namespace) -> bool:
    """Whether every round could be run, and every request was answered."""
    deadline_s = time.monotonic() + arguments.limit_s
    arguments.json.unlink(missing_ok=True)
    forms, names = read_forms(arguments), read_peers(arguments.peers)
    served = make_served(arguments, max(form.streams for form in forms))
    plans = [maker() for name, maker in makers(served).items() if name in names]
    with contextlib.ExitStack() as stack:
        servers = stack.enter_context(running_servers(plans, MODEL_NAME, FOLDER / "logs"))
        alternation = Alternation([subject for subject, _ in servers.values()])
        if OFFLINE in names:
            print(f"starting {OFFLINE}", file=sys.stderr)
            alternation.engine = stack.enter_context(OfflineEngine(served.offline()))
            alternation.engine.loaded(deadline_s)
        alternation.warm_up(sys.stderr)
        is_whole = run_rounds(alternation, forms, arguments, deadline_s)
    print("\n".join(complaint_lines(alternation.measurements)), file=sys.stderr)
    return is_whole and not any(each.summary.errors for each in alternation.measurements)


def run_rounds(
    alternation: Alternation,
    forms: Sequence[StreamLoad],
    arguments: argparse.Namespace,
    deadline_s: float,
) -> bool:
    """Whether all of them could be run; what was measured is written after each."""
    for form in forms:
        for repetition in range(arguments.repeat):
            try:
                if time.monotonic() > deadline_s:
                    raise EngineError(f"the time was over before {form.streams} streams")
                alternation.run_round(form, repetition, deadline_s, sys.stderr)
            except EngineError as error:
                print(f"cut short: {error.sentence}")
                return False
            write_json(arguments.json, alternation)
    return True


def table_lines(alternation: Alternation) -> Iterator[str]:
    yield from comparison_lines(alternation.measurements, BASE, COLUMNS)
    yield ""
    yield from share_lines(alternation)


def write_json(path: Path, alternation: Alternation) -> None:
    """The figures, and the tables that are made of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {
        **report(alternation.measurements),
        OFFLINE: [asdict(each) for each in alternation.offline],
        TABLES: list(table_lines(alternation)),
    }
    path.write_text(json.dumps(values, indent=1) + "\n")


def read_tables(path: Path) -> list[str]:
    try:
        return [str(line) for line in json.loads(path.read_text())[TABLES]]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ResultsError(f"The results {path} cannot be read.") from error


def makers(served: Served) -> dict[str, Callable[[], ServerPlan]]:
    return {"stock": served.stock, "gateway": served.gateway}


def make_served(arguments: argparse.Namespace, num_seqs: int) -> Served:
    model = arguments.model
    if model is None:
        folder = arguments.checkpoints / f"{arguments.shape}-{arguments.kind}"
        model = write_checkpoint(folder, SHAPES[arguments.shape], arguments.kind)
    return Served(
        model=model,
        folder=FOLDER,
        num_seqs=num_seqs,
        max_model_len=arguments.max_model_len,
        step_tokens=arguments.step_tokens,
        gpu_share=arguments.gpu_share,
        is_eager=arguments.eager,
    )


def read_forms(arguments: argparse.Namespace) -> list[StreamLoad]:
    return [
        StreamLoad(streams, arguments.prompt_words, arguments.output_tokens)
        for streams in read_numbers(arguments.streams, "--streams")
    ]


def read_peers(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in PEERS]
    if unknown or set(names) <= {OFFLINE}:
        raise SettingsError(f"--peers has to be of {', '.join(PEERS)}, one of them a server.")
    return names
