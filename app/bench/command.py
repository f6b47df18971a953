"""`python -m app bench`: how fast a running server answers many clients at once."""

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any

from app.bench.load import run_closed_loop
from app.bench.outcome import Outcome
from app.bench.progress import Progress
from app.bench.statistics import summarize
from app.bench.table import summary_lines
from app.bench.target import DEFAULT_KEY_FILE, DEFAULT_URL, Target, first_model, read_key
from app.bench.workload import Workload, chat_bodies


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", default=DEFAULT_URL, help="of the server (default: %(default)s)")
    parser.add_argument("--key-file", type=Path, help=f"default: {DEFAULT_KEY_FILE}")
    parser.add_argument("--model", help="default: the first one that the server lists")
    parser.add_argument("--requests", type=positive, default=64, help="default: %(default)s")
    parser.add_argument("--concurrency", type=positive, default=16, help="default: %(default)s")
    parser.add_argument("--output-tokens", type=positive, help="default: until the model ends")
    parser.add_argument("--no-stream", action="store_true", help="ask for whole answers")
    parser.add_argument("--seed", type=int, default=0, help="of the questions")


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def run(arguments: argparse.Namespace) -> int:
    target = Target("server", arguments.url.rstrip("/"), read_key(arguments.key_file))
    model = arguments.model or first_model(target)
    workload = Workload(
        num_requests=arguments.requests,
        output_tokens=arguments.output_tokens,
        stream=not arguments.no_stream,
        seed=arguments.seed,
    )
    bodies = chat_bodies(workload, model)
    one_by_one = summarize(measure(target, bodies, 1, "one by one"))
    together = summarize(measure(target, bodies, arguments.concurrency, "together"))
    print("\n".join(summary_lines(together)))
    print(f"speed-up       {one_by_one.wall_s / together.wall_s:.2f} x over one by one")
    return 1 if together.errors or one_by_one.errors else 0


def measure(
    target: Target, bodies: list[dict[str, Any]], concurrency: int, label: str
) -> list[Outcome]:
    progress = Progress(f"{label:<10}", len(bodies), sys.stderr)
    return asyncio.run(run_closed_loop(target, bodies, concurrency, progress))
