"""`python -m app bench-overload`: what is answered in time when more comes than can be, the gateway
beside vLLM's own server, both on the simulated executor."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.bench.arrivals import ClosedLoop, OpenLoop
from app.bench.campaign import Campaign, Load, Subject
from app.bench.comparison import write_section
from app.bench.generator import Run
from app.bench.lengths import Lengths
from app.bench.outcome import Outcome
from app.bench.peers import MODEL_NAME, Bench, plan_simulated_gateway, plan_stock
from app.bench.report import today_here
from app.bench.running_servers import running_servers
from app.bench.statistics import Objectives, quantile
from app.bench.table import number, table_row
from app.bench.workload import draw_workload

FOLDER = Path(".cache/bench/overload")
MODEL = Path("models/bundled/w8a8")
STEP_MS, NUM_STREAMS = 20.0, 32
PROMPT, ANSWER = Lengths(12), Lengths(64, 0.5)
GOAL_S = 2.0
# The wait that leaves time for the first token itself.
MAX_WAIT_S = 0.8 * GOAL_S
TIMES = (0.8, 2.0, 4.0)
LEAST_SHARE = 0.9
WARM_UP_SHARE = 0.25


@dataclass(frozen=True)
class Stretch:
    """A run after its first quarter, when the queue is what it will be."""

    outcomes: Sequence[Outcome]
    seconds: float

    @property
    def good_per_s(self) -> float:
        goal = Objectives(first_token_s=GOAL_S)
        good = [each for each in self.outcomes if each.error is None and goal.are_met(each)]
        return len(good) / self.seconds

    @property
    def refused(self) -> float:
        return sum(each.error is not None for each in self.outcomes) / len(self.outcomes)

    def first_token_s(self, q: float) -> float | None:
        seen = sorted(each.first_token_s or 0.0 for each in self.outcomes if each.error is None)
        return quantile(seen, q) if seen else None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=30, help="default: %(default)s a load")
    parser.add_argument("--write", type=Path, help="put the table into this Markdown file")


def run(arguments: argparse.Namespace) -> int:
    FOLDER.mkdir(parents=True, exist_ok=True)
    bench = Bench(MODEL, FOLDER, STEP_MS, NUM_STREAMS)
    waiting = (f"queue.max_wait_s={MAX_WAIT_S}",)
    plans = [plan_simulated_gateway(bench, "gateway", "auto", waiting), plan_stock(bench)]
    with running_servers(plans, MODEL_NAME, FOLDER / "logs") as servers:
        subjects = [servers[plan.name][0] for plan in plans]
        capacity = max(capacity_of(subject) for subject in subjects)
        stretches = {
            (times, subject.target.name): overload(subject, times * capacity, arguments.seconds)
            for subject in subjects
            for times in TIMES
        }
    lines = [heading(capacity, arguments.seconds), "", *table(stretches, capacity)]
    shares = {
        times: stretches[times, "gateway"].good_per_s / capacity for times in TIMES if times > 1
    }
    lines += ["", *(verdict(times, share) for times, share in shares.items())]
    print("\n".join(lines))
    if arguments.write:
        write_section(arguments.write, lines, "overload")
    return 0 if min(shares.values()) >= LEAST_SHARE else 1


def capacity_of(subject: Subject) -> float:
    """Answers per second with always a little more to do than there is room for, in the middle of
    a run: at its ends the engine is not full."""
    workload = draw_workload(20 * NUM_STREAMS, PROMPT, ANSWER)
    load = Load("capacity", workload, ClosedLoop(NUM_STREAMS + NUM_STREAMS // 4))
    outcomes = measured(subject, load).outcomes
    ends = sorted(each.ended_s for each in outcomes if each.error is None)
    middle = ends[len(ends) // 4 : 3 * len(ends) // 4]
    return (len(middle) - 1) / (middle[-1] - middle[0])


def overload(subject: Subject, rate: float, seconds: float) -> Stretch:
    workload = draw_workload(round(rate * seconds), PROMPT, ANSWER, seed=round(rate))
    run = measured(subject, Load(f"{rate:.0f} per s", workload, OpenLoop(rate, rate)))
    due = sorted(run.outcomes, key=lambda each: each.due_s)
    outcomes = due[int(WARM_UP_SHARE * len(due)) :]
    return Stretch(outcomes, outcomes[-1].due_s - outcomes[0].due_s)


def measured(subject: Subject, load: Load) -> Run:
    return Campaign([subject], [load], num_warm_up=16).run(sys.stderr)[0].run


def heading(capacity: float, seconds: float) -> str:
    return (
        f"{today_here()}; simulated executor, {NUM_STREAMS} sequences at once, {STEP_MS:.0f} ms a "
        f"step, answers of about {ANSWER.median} tokens: {capacity:.1f} requests per second at "
        "most. Poisson arrivals for "
        f"{seconds:.0f} s; in time: first token within {GOAL_S:g} s of the request's arrival; the "
        f"gateway with `queue.max_wait_s={MAX_WAIT_S:g}`. `make bench-overload`."
    )


def table(stretches: dict[tuple[float, str], Stretch], capacity: float) -> list[str]:
    titles = ("arrivals", "server", "in time /s", "of capacity", "refused", "first token p50 ms")
    lines = [table_row(*titles, "p95 ms"), table_row(*["---"] * (len(titles) + 1))]
    for (times, name), stretch in sorted(stretches.items()):
        p50_s, p95_s = stretch.first_token_s(0.5), stretch.first_token_s(0.95)
        cells = [
            f"{times:g} x capacity",
            name,
            number(stretch.good_per_s),
            f"{stretch.good_per_s / capacity:.0%}",
            f"{stretch.refused:.0%}",
            *(number(None if each is None else each * 1e3) for each in (p50_s, p95_s)),
        ]
        lines.append(table_row(*cells))
    return lines


def verdict(times: float, share: float) -> str:
    kept = "met" if share >= LEAST_SHARE else "MISSED"
    wanted = f"{LEAST_SHARE:.0%} wanted"
    return f"- {times:g} x capacity: {share:.0%} of it answered in time ({wanted}): {kept}."
