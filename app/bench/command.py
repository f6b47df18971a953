"""`python -m app bench`: how fast running servers answer many clients at once."""

import argparse
import sys
from pathlib import Path

from app.bench.arrivals import FORMS, ClosedLoop, parse_arrivals
from app.bench.campaign import Campaign, Load, Measurement, Subject
from app.bench.lengths import Lengths, parse_lengths
from app.bench.plots import write_plots
from app.bench.report import write_report
from app.bench.statistics import Objectives
from app.bench.table import complaint_lines, measurement_table, summary_lines
from app.bench.target import DEFAULT_KEY_FILE, DEFAULT_URL, Target, first_model, read_key
from app.bench.workload import Workload, draw_workload, read_trace
from app.core.errors import AppError
from app.core.number_arguments import positive


class BenchError(AppError):
    """Options that do not go together."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target_arguments(parser.add_argument_group("what is measured"))
    load = parser.add_argument_group("load")
    load.add_argument("--requests", type=positive, default=64, help="default: %(default)s")
    load.add_argument("--concurrency", type=positive, action="append", help="default: 16")
    load.add_argument("--arrivals", action="append", metavar="FORM", help=FORMS)
    load.add_argument("--output-tokens", metavar="N", help="or lognormal:MEDIAN:SIGMA")
    load.add_argument("--prompt-words", metavar="N", help="or lognormal:MEDIAN:SIGMA")
    load.add_argument("--trace", type=Path, help="JSON lines: prompt_words, output_tokens, at_s")
    load.add_argument("--no-stream", action="store_true", help="ask for whole answers")
    load.add_argument("--seed", type=int, default=0, help="of the requests")
    load.add_argument("--repeat", type=positive, default=1, help="show medians of so many runs")
    load.add_argument("--warm-up", type=int, default=8, metavar="REQUESTS")
    load.add_argument("--no-one-by-one", action="store_true", help="leave out the speed-up")
    goals = parser.add_argument_group("objectives, for the rate of good answers")
    for name in ("latency", "first-token", "per-token"):
        goals.add_argument(f"--{name}-ms", type=float)
    out = parser.add_argument_group("output")
    out.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    out.add_argument("--plots", type=Path, metavar="FOLDER", help="write charts (SVG)")


def add_target_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--url", default=DEFAULT_URL, help="default: %(default)s")
    group.add_argument("--target", action="append", metavar="NAME=URL", help="instead of --url")
    group.add_argument("--key-file", type=Path, help=f"default: {DEFAULT_KEY_FILE}")
    group.add_argument("--model", help="default: the first one that the server lists")
    group.add_argument(
        "--pid", action="append", default=[], metavar="[NAME=]PID", help="charge its CPU time"
    )


def run(arguments: argparse.Namespace) -> int:
    subjects, loads = read_subjects(arguments), read_loads(arguments)
    campaign = Campaign(
        subjects, loads, arguments.repeat, arguments.warm_up, read_objectives(arguments)
    )
    alone = None
    if compares_one_by_one(arguments, subjects, loads):
        one_by_one = Load("one by one", loads[0].workload, ClosedLoop(1))
        alone = Campaign(subjects, [one_by_one]).run(sys.stderr)[0]
    measurements = campaign.run(sys.stderr)
    show(measurements, alone)
    if arguments.json:
        write_report(arguments.json, measurements)
    if arguments.plots:
        print("\n".join(f"wrote {path}" for path in write_plots(arguments.plots, measurements)))
    return 1 if any(each.summary.errors for each in measurements) else 0


def compares_one_by_one(
    arguments: argparse.Namespace, subjects: list[Subject], loads: list[Load]
) -> bool:
    is_simple = len(subjects) == len(loads) == arguments.repeat == 1
    is_closed = isinstance(loads[0].arrivals, ClosedLoop) and not loads[0].workload.has_times
    return is_simple and is_closed and not arguments.no_one_by_one


def show(measurements: list[Measurement], alone: Measurement | None) -> None:
    if len(measurements) == 1:
        print("\n".join(summary_lines(measurements[0].summary)))
        if (cpu_us := measurements[0].cpu_us_per_token) is not None:
            print(f"server CPU     {cpu_us:.1f} us per token")
    else:
        print("\n".join(measurement_table(measurements)))
    if alone is not None and not (alone.summary.errors or measurements[0].summary.errors):
        ratio = alone.summary.wall_s / measurements[0].summary.wall_s
        print(f"speed-up       {ratio:.2f} x over one by one")
    for line in complaint_lines(measurements):
        print(line)


def read_subjects(arguments: argparse.Namespace) -> list[Subject]:
    named = [split_name(text) for text in arguments.target or [f"server={arguments.url}"]]
    key = read_key(arguments.key_file)
    pids = [split_name(text if "=" in text else f"{named[0][0]}={text}") for text in arguments.pid]
    unknown = {name for name, _ in pids} - {name for name, _ in named}
    if unknown:
        raise BenchError(f"--pid names {min(unknown)}, which is no target.")
    subjects = []
    for name, url in named:
        target = Target(name, url.rstrip("/"), key)
        model = arguments.model or first_model(target)
        subjects.append(Subject(target, model, tuple(int(pid) for at, pid in pids if at == name)))
    return subjects


def split_name(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name and sign and value):
        raise BenchError(f"{text!r} has to be NAME=VALUE.")
    return name, value


def read_loads(arguments: argparse.Namespace) -> list[Load]:
    workload = read_workload(arguments)
    if workload.has_times:
        if arguments.concurrency or arguments.arrivals:
            raise BenchError("The trace says when requests come: leave --arrivals out.")
        return [Load("trace", workload, ClosedLoop(1))]
    forms = [f"closed:{number}" for number in arguments.concurrency or []]
    forms += arguments.arrivals or []
    return [Load(form, workload, parse_arrivals(form)) for form in forms or ["closed:16"]]


def read_workload(arguments: argparse.Namespace) -> Workload:
    stream = not arguments.no_stream
    if arguments.trace:
        return read_trace(arguments.trace, stream=stream, seed=arguments.seed)
    return draw_workload(
        arguments.requests,
        read_lengths(arguments.prompt_words),
        read_lengths(arguments.output_tokens),
        stream=stream,
        seed=arguments.seed,
    )


def read_lengths(text: str | None) -> Lengths | None:
    return parse_lengths(text) if text else None


def read_objectives(arguments: argparse.Namespace) -> Objectives:
    def seconds(milliseconds: float | None) -> float | None:
        return None if milliseconds is None else milliseconds / 1e3

    return Objectives(
        latency_s=seconds(arguments.latency_ms),
        first_token_s=seconds(arguments.first_token_ms),
        per_token_s=seconds(arguments.per_token_ms),
    )
