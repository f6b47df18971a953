"""`python -m app bench-gateway`: the gateway beside its peers, all on the simulated executor."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.bench.arrivals import ClosedLoop
from app.bench.campaign import Campaign, Load, Measurement
from app.bench.comparison import comparison_lines, write_section
from app.bench.figures import figures_of, grouped
from app.bench.floor import floor_lines, measure_floor
from app.bench.lengths import Lengths
from app.bench.peers import (
    MODEL_NAME,
    Bench,
    PeerError,
    plan_litellm,
    plan_rust,
    plan_simulated_gateway,
    plan_stock,
)
from app.bench.report import write_report
from app.bench.running_servers import running_servers
from app.bench.server_process import ServerPlan
from app.bench.table import complaint_lines
from app.bench.workload import draw_workload

PEERS = ("gateway", "gateway-slow", "stock", "rust", "litellm")
FLOOR = "floor"
BASE = "stock"
FOLDER = Path(".cache/bench")
DEFAULT_MODEL = Path("models/bundled/w8a8")


@dataclass(frozen=True)
class LoadForm:
    """One load of the comparison. `requests` and `tokens` are per stream. `without` names peers
    that would take minutes to show that they cannot carry it.
    """

    name: str
    step_ms: float
    streams: int
    tokens: int
    requests: int = 1
    stream: bool = True
    without: tuple[str, ...] = ()

    def load(self) -> Load:
        workload = draw_workload(
            self.streams * self.requests, Lengths(12), Lengths(self.tokens), stream=self.stream
        )
        return Load(self.name, workload, ClosedLoop(self.streams))


# The last is a step that is short enough for the process that speaks HTTP to be the limit: at 8 ms
# it is the engine's own process, whichever server stands before it.
STEADY_MS, FAST_MS, OVERLOAD_MS = 50, 8, 4
FLOOR_LOADS = ("64 streams", "256 streams")
FORMS = (
    LoadForm("1 stream", STEADY_MS, 1, 96),
    LoadForm("16 streams", STEADY_MS, 16, 96),
    LoadForm("64 streams", STEADY_MS, 64, 192),
    LoadForm("256 streams", STEADY_MS, 256, 192, without=("litellm",)),
    LoadForm("overload", OVERLOAD_MS, 256, 192, requests=2, without=("litellm",)),
    LoadForm("short", FAST_MS, 32, 8, requests=16),
    LoadForm("whole answers", FAST_MS, 32, 8, requests=16, stream=False),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peers", default=",".join([*PEERS, FLOOR]), help="default: %(default)s")
    parser.add_argument("--loads", help=f"default: {', '.join(form.name for form in FORMS)}")
    parser.add_argument("--repeat", type=int, default=3, help="default: %(default)s")
    parser.add_argument(
        "--model", type=Path, default=DEFAULT_MODEL, help="for its tokenizer and configuration"
    )
    parser.add_argument("--json", type=Path, default=FOLDER / "gateway.json")
    parser.add_argument("--write", type=Path, help="put the table into this Markdown file")


def run(arguments: argparse.Namespace) -> int:
    names = chosen(arguments.peers, [*PEERS, FLOOR], "--peers")
    loads = chosen(arguments.loads, [form.name for form in FORMS], "--loads")
    FOLDER.mkdir(parents=True, exist_ok=True)
    measurements: list[Measurement] = []
    for step_ms in (STEADY_MS, FAST_MS, OVERLOAD_MS):
        forms = [form for form in FORMS if form.step_ms == step_ms and form.name in loads]
        if forms:
            bench = Bench(arguments.model, FOLDER, step_ms)
            with running_servers(plans(bench, names), MODEL_NAME, FOLDER / "logs") as servers:
                for form in forms:
                    carrying = [
                        subject
                        for name, (subject, _) in servers.items()
                        if name not in form.without
                    ]
                    campaign = Campaign(carrying, [form.load()], arguments.repeat, num_warm_up=16)
                    measurements += campaign.run(sys.stderr)
    write_report(arguments.json, measurements)
    lines = comparison_lines(measurements, BASE)
    if FLOOR in names:
        lines += ["", *floor_beside(arguments, loads, measurements)]
    print("\n".join(lines))
    for line in complaint_lines(measurements):
        print(line)
    if arguments.write:
        write_section(arguments.write, lines, "gateway")
    return 1 if any(each.summary.errors for each in measurements) else 0


def floor_beside(
    arguments: argparse.Namespace, loads: Sequence[str], measurements: Sequence[Measurement]
) -> list[str]:
    """The floor under the steady streams that were measured."""
    bench = Bench(arguments.model, FOLDER, STEADY_MS)
    sizes = {
        form.name: f"{form.streams}x{form.tokens}"
        for form in FORMS
        if form.name in FLOOR_LOADS and form.name in loads
    }
    if not sizes:
        return []
    print("measuring the engine's client alone", file=sys.stderr)
    log = FOLDER / "logs" / "floor.log"
    floors = measure_floor(arguments.model, sizes, arguments.repeat, bench.environment, log)
    stock = {
        load: figures_of(group)["server_cpu_us_per_token"]
        for (load, target), group in grouped(measurements).items()
        if target == BASE
    }
    return floor_lines(floors, stock)


def chosen(text: str | None, known: Sequence[str], option: str) -> list[str]:
    names = [name.strip() for name in text.split(",")] if text else list(known)
    for name in names:
        if name not in known:
            raise PeerError(f"{option}: {name!r} is none of {', '.join(known)}.")
    return names


def plans(bench: Bench, names: Sequence[str]) -> Iterator[ServerPlan]:
    """The stock server always: the others are compared with it, and LiteLLM stands before it. A
    peer that cannot be had here is named and left out.
    """
    stock = plan_stock(bench)
    makers: dict[str, Callable[[], ServerPlan]] = {
        "gateway": lambda: plan_simulated_gateway(bench, "gateway", "auto"),
        "gateway-slow": lambda: plan_simulated_gateway(bench, "gateway-slow", "off"),
        "stock": lambda: stock,
        "rust": lambda: plan_rust(bench),
        "litellm": lambda: plan_litellm(bench, stock),
    }
    for name in PEERS:
        if name in names or name == BASE:
            try:
                yield makers[name]()
            except PeerError as error:
                print(f"left out: {error.sentence}", file=sys.stderr)
