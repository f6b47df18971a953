"""`python -m app soak`: a day's mixture of requests for a while; is everything as it was before?"""

import argparse
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.bench.comparison import write_section
from app.bench.peers import GatewayModel, plan_gateway
from app.bench.report import today_here
from app.bench.server_process import ServerProcess
from app.bench.table import table_row
from app.bench.target import first_model
from app.soak.accounting import Accounts, settle
from app.soak.clients import Clients, Sent, faults_of
from app.soak.snapshot import GAUGES, Snapshot, SoakError, take_snapshot

FOLDER = Path(".cache/soak")
USAGE, LOG = FOLDER / "usage", FOLDER / "gateway.log"
SETTINGS = (f"usage.directory={USAGE}", "usage.replica=soak", "log.format=json", "log.level=info")
STOP_S = 60.0
# What is loaded or grown on first use is there after so much of the time, within these bounds.
WARM_UP_SHARE, MIN_WARM_UP_S, MAX_WARM_UP_S = 0.25, 20.0, 240.0


@dataclass(frozen=True)
class Soak:
    """What was seen: at rest after the warm-up and at the end, and what became of each request."""

    minutes: float
    before: Snapshot
    after: Snapshot
    sent: Sequence[Sent]
    accounts: Accounts

    @property
    def leaks(self) -> list[str]:
        return [
            f"{gauge.title}: {self.before[gauge.name]:g}, then {self.after[gauge.name]:g}"
            for gauge in GAUGES
            if not gauge.is_flat(self.before[gauge.name], self.after[gauge.name])
        ]

    @property
    def faults(self) -> list[str]:
        found = faults_of(self.sent) + self.accounts.faults
        return [f"{name}: {times}" for name, times in sorted(found.items()) if times]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minutes", type=float, default=20, help="default: %(default)s")
    parser.add_argument("--clients", type=int, default=16, help="default: %(default)s")
    parser.add_argument("--profile", default="bundled", help="default: %(default)s")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--write", type=Path, help="put the table into this Markdown file")


def run(arguments: argparse.Namespace) -> int:
    soak = run_soak(arguments)
    lines = list(table_lines(soak))
    print("\n".join(lines))
    for complaint in (*soak.leaks, *soak.faults):
        print(f"FAILED  {complaint}")
    if arguments.write:
        write_section(arguments.write, lines, "soak")
    return 1 if soak.leaks or soak.faults else 0


def run_soak(arguments: argparse.Namespace) -> Soak:
    """Starts the gateway, and ends it. Raises SoakError where it does not come to rest or end."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    model = GatewayModel("gateway", arguments.profile, (*SETTINGS, *arguments.set))
    duration_s = arguments.minutes * 60
    with ServerProcess(plan_gateway(model, FOLDER), LOG) as server:
        target = server.wait_until_ready()
        name, pid = first_model(target), server.root_pid
        warm_up = Clients(target, name, "warm-up").run(arguments.clients, warm_up_s(duration_s))
        before = take_snapshot(target, pid)
        print(f"warm: {len(warm_up.sent)} requests", file=sys.stderr)
        clients = Clients(target, name, "soak").run(arguments.clients, duration_s)
        after = take_snapshot(target, pid)
        os.kill(pid, signal.SIGTERM)
        if not server.has_ended(STOP_S):
            raise SoakError(f"The gateway does not end; its log is {LOG}.")
    sent = [*warm_up.sent, *clients.sent]
    return Soak(arguments.minutes, before, after, sent, settle(sent, LOG, USAGE))


def warm_up_s(duration_s: float) -> float:
    return min(MAX_WARM_UP_S, max(MIN_WARM_UP_S, duration_s * WARM_UP_SHARE))


def table_lines(soak: Soak) -> Iterator[str]:
    accounts = soak.accounts
    yield (
        f"{today_here()}; {soak.minutes:g} minutes, {accounts.num_sent} requests with those of the "
        f"warm-up, {accounts.num_records} usage records. `make soak`."
    )
    yield ""
    yield table_row("at rest", "after the warm-up", "at the end", "")
    yield table_row(*["---"] * 4)
    for gauge in GAUGES:
        before, after = soak.before[gauge.name], soak.after[gauge.name]
        share = f"{(after - before) / before:+.2%}" if gauge.is_share else f"{after - before:+g}"
        yield table_row(gauge.title, f"{before:,.6g}", f"{after:,.6g}", share)
    yield ""
    yield table_row("requests", "sent", "otherwise than asked for")
    yield table_row(*["---"] * 3)
    for kind in sorted({each.ask.kind for each in soak.sent}):
        those = [each for each in soak.sent if each.ask.kind == kind]
        yield table_row(kind, str(len(those)), str(sum(bool(each.fault) for each in those)))
