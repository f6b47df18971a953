"""`python -m app bench-start`: where the time of a start goes, with and without compiled code."""

import argparse
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import httpx

from app.bench.comparison import write_section
from app.bench.peers import GatewayModel, plan_gateway
from app.bench.report import today_here
from app.bench.server_process import ServerProcess
from app.bench.table import table_row
from app.bench.target import Target, first_model, read_samples

FOLDER = Path(".cache/bench-start")
CACHE = FOLDER / "compiled"
SERIES = "gateway_start_seconds"
FIRST_TOKEN = "first token"  # noqa: S105
Seconds = Mapping[str, float]


@dataclass(frozen=True)
class Form:
    """A way to start. `keeps_cache`: what was compiled before is there."""

    name: str
    settings: tuple[str, ...] = ()
    keeps_cache: bool = True


FORMS = (
    Form("nothing compiled (`enforce_eager`)", ("engine.enforce_eager=true",)),
    Form("compiled, with an empty cache", keeps_cache=False),
    Form("compiled, from the cache"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeat", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--profile", default="bundled", help="default: %(default)s")
    parser.add_argument("--write", type=Path, help="put the table into this Markdown file")


def run(arguments: argparse.Namespace) -> int:
    rows = []
    for form in FORMS:
        starts = [start(form, arguments.profile) for _ in range(arguments.repeat)]
        rows.append(
            (form.name, {name: median(each[name] for each in starts) for name in starts[0]})
        )
    heading = (
        f"{today_here()}; profile {arguments.profile}, medians of {arguments.repeat}. "
        "`make bench-start`."
    )
    lines = [heading, "", *table_lines(rows)]
    print("\n".join(lines))
    if arguments.write:
        write_section(arguments.write, lines, "start")
    return 0


def start(form: Form, profile: str) -> Seconds:
    """Start a gateway and end it; seconds by phase, and to the first token of its first request."""
    if not form.keeps_cache:
        shutil.rmtree(CACHE, ignore_errors=True)
    environment = {"VLLM_CACHE_ROOT": str(CACHE.absolute())}
    model = GatewayModel("gateway", profile, form.settings, environment)
    print(f"starting: {form.name}", file=sys.stderr)
    with ServerProcess(plan_gateway(model, FOLDER), FOLDER / "gateway.log") as server:
        target = server.wait_until_ready()
        return {**read_phases(target), FIRST_TOKEN: first_token_s(target)}


def read_phases(target: Target) -> Seconds:
    return {
        each.labels["phase"]: each.value for each in read_samples(target) if each.name == SERIES
    }


def first_token_s(target: Target) -> float:
    messages = [{"role": "user", "content": "What is 37 + 5?"}]
    body = {"model": first_model(target), "messages": messages, "max_tokens": 8, "stream": True}
    url, begun = f"{target.url}/v1/chat/completions", time.monotonic()
    with httpx.stream("POST", url, json=body, headers=target.headers, timeout=60) as answer:
        next(line for line in answer.iter_lines() if '"content":"' in line)
        return time.monotonic() - begun


def table_lines(rows: Sequence[tuple[str, Seconds]]) -> Iterator[str]:
    names = list(rows[0][1])
    yield table_row("seconds, by phase", *names, "all")
    yield table_row(*["---"] * (len(names) + 2))
    for title, seconds in rows:
        cells = [f"{seconds[name]:.2f}" for name in names]
        yield table_row(title, *cells, f"{sum(seconds.values()):.1f}")
