"""`python -m app bench-engine`: the bundled model on the real engine, W8A8 beside 16 bits."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from app.bench.arrivals import ClosedLoop
from app.bench.campaign import Campaign, Load, Subject
from app.bench.comparison import comparison_lines, write_section
from app.bench.lengths import Lengths
from app.bench.peers import GatewayModel, plan_gateway
from app.bench.process_cpu import resident_bytes
from app.bench.report import write_report
from app.bench.running_servers import running_servers
from app.bench.server_process import ServerPlan, ServerProcess
from app.bench.table import complaint_lines, table_row
from app.bench.target import read_status
from app.bench.workload import draw_workload

FOLDER = Path(".cache/bench")
MODEL_NAME = "bundled"
BASE = "bf16"
PROFILES = {"w8a8": "bundled", BASE: "bundled-16bit"}
STREAMS = (1, 16, 64)
PROMPT, ANSWER = Lengths(40), Lengths(64)
MIB = 2**20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeat", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--json", type=Path, default=FOLDER / "engine.json")
    parser.add_argument("--write", type=Path, help="put the tables into this Markdown file")


def run(arguments: argparse.Namespace) -> int:
    FOLDER.mkdir(parents=True, exist_ok=True)
    plans = [plan(name, profile) for name, profile in PROFILES.items()]
    with running_servers(plans, MODEL_NAME, FOLDER / "logs") as servers:
        subjects = [subject for subject, _ in servers.values()]
        campaign = Campaign(subjects, loads(), arguments.repeat, num_warm_up=16)
        measurements = campaign.run(sys.stderr)
        memory = memory_lines(servers)
    write_report(arguments.json, measurements)
    lines = [*comparison_lines(measurements, BASE), "", *memory]
    print("\n".join(lines))
    for line in complaint_lines(measurements):
        print(line)
    if arguments.write:
        write_section(arguments.write, lines, "engine")
    return 1 if any(each.summary.errors for each in measurements) else 0


def plan(name: str, profile: str) -> ServerPlan:
    return plan_gateway(GatewayModel(name, profile), FOLDER)


def loads() -> list[Load]:
    return [
        Load(
            f"{streams} stream{'s' if streams > 1 else ''}",
            draw_workload(max(4, 2 * streams), PROMPT, ANSWER),
            ClosedLoop(streams),
        )
        for streams in STREAMS
    ]


def memory_lines(servers: Mapping[str, tuple[Subject, ServerProcess]]) -> list[str]:
    """Weights as the engine counts them; resident memory of all of the server's processes, most of
    which is the libraries that both have."""
    lines = [
        table_row("checkpoint", "kernel", "weights MiB", "resident MiB"),
        table_row(*["---"] * 4),
    ]
    for name, (subject, server) in servers.items():
        found = read_status(subject.target)["quantization"]
        weights = int(found["parameter_bytes"]) / MIB
        resident = resident_bytes(server.pids) / MIB
        lines.append(table_row(name, found["kernel"], f"{weights:.2f}", f"{resident:.0f}"))
    return lines
