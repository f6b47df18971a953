"""`python -m app bench-fairness`: a light tenant beside a heavy one, the gateway beside vLLM's own
server, both with the bundled model on the real engine."""

import argparse
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from app.bench.comparison import write_section
from app.bench.crowds import Crowd, Scene, play
from app.bench.peers import GatewayModel, PeerError, plan_gateway, stock_command
from app.bench.report import today_here
from app.bench.running_servers import running_servers
from app.bench.server_process import QUIET_VLLM, ServerPlan, free_port
from app.bench.statistics import quantile
from app.bench.table import number, table_row
from app.bench.target import Target

FOLDER = Path(".cache/bench/fairness")
MODEL, MODEL_NAME, PROFILE = Path("models/bundled/w8a8"), "bundled", "bundled"
GATEWAY, STOCK = "gateway", "stock"
NUM_SEQS = 8
HEAVY, LIGHT = "a", "b"
FLOOD, BACKLOG, ANSWER = 64, 16, 64
WEIGHT = 3.0
NO_KEYS: Mapping[str, str] = {}


@dataclass(frozen=True)
class Seen:
    """Of one server: the light tenant beside a full engine that nobody waits for, beside a flood,
    and both with more to do than there is room for. `weighted` None: the server knows no weights.
    """

    quiet: Scene
    flood: Scene
    equal: Scene
    weighted: Scene | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=60, help="default: %(default)s a scene")
    parser.add_argument("--write", type=Path, help="put the table into this Markdown file")


def run(arguments: argparse.Namespace) -> int:
    shutil.rmtree(FOLDER / GATEWAY, ignore_errors=True)  # keys of an earlier run
    FOLDER.mkdir(parents=True, exist_ok=True)
    plans = [gateway_plan(), stock_plan()]
    with running_servers(plans, MODEL_NAME, FOLDER / "logs") as servers:
        subjects = [servers[plan.name][0] for plan in plans]
        gateway = watch_gateway(subjects[0].target, arguments.seconds)
        stock = watch(subjects[1].target, arguments.seconds)
    verdicts = judge(gateway, stock)
    lines = [*heading(arguments.seconds), "", *table({GATEWAY: gateway, STOCK: stock}), ""]
    lines += [f"- {sentence}: {'met' if is_met else 'MISSED'}." for sentence, is_met in verdicts]
    print("\n".join(lines))
    if arguments.write:
        write_section(arguments.write, lines, "fairness")
    return 0 if all(is_met for _, is_met in verdicts) else 1


def gateway_plan() -> ServerPlan:
    settings = (f"engine.max_num_seqs={NUM_SEQS}", "engine.enforce_eager=true")
    return plan_gateway(GatewayModel(GATEWAY, PROFILE, settings), FOLDER)


def stock_plan() -> ServerPlan:
    port = free_port()
    arguments = [
        *("--served-model-name", MODEL_NAME, "--host", "127.0.0.1", "--port", str(port)),
        *("--max-num-seqs", str(NUM_SEQS), "--max-model-len", "4096"),
        *("--max-num-batched-tokens", "2048", "--enforce-eager"),
    ]
    environment = {"VLLM_CPU_KVCACHE_SPACE": "1", **QUIET_VLLM}
    return ServerPlan(STOCK, stock_command(MODEL, arguments), port, environment)


def edit_keys(*words: str) -> str:
    """With the gateway's own command, as its user does; in force within a second."""
    file = FOLDER / GATEWAY / "keys.yaml"
    command = [sys.executable, "-m", "app", "keys", *words, "--file", str(file)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise PeerError(f"The gateway's keys cannot be edited: {result.stderr.strip()}")
    return result.stdout.strip()


def watch_gateway(target: Target, seconds: float) -> Seen:
    keys = {name: edit_keys("create", name) for name in (HEAVY, LIGHT)}
    seen = watch(target, seconds, keys)
    edit_keys("weight", HEAVY, str(WEIGHT))
    return replace(seen, weighted=show(target, "weights 3:1", FLOOD, BACKLOG, seconds, keys))


def watch(target: Target, seconds: float, keys: Mapping[str, str] = NO_KEYS) -> Seen:
    return Seen(
        show(target, "quiet", NUM_SEQS - 1, 1, seconds / 2, keys),
        show(target, "flood", FLOOD, 1, seconds, keys),
        show(target, "equal weights", FLOOD, BACKLOG, seconds, keys),
    )


def show(
    target: Target, name: str, heavy: int, light: int, seconds: float, keys: Mapping[str, str]
) -> Scene:
    print(f"{target.name}: {name}", file=sys.stderr)
    crowds = [
        Crowd(tenant, replace(target, api_key=keys.get(tenant)), in_flight, ANSWER)
        for tenant, in_flight in ((HEAVY, heavy), (LIGHT, light))
    ]
    return play(crowds, MODEL_NAME, seconds)


def judge(gateway: Seen, stock: Seen) -> list[tuple[str, bool]]:
    """Each promise as a sentence with its figure, and whether it was kept."""
    gain = p95_s(stock.flood, LIGHT) / p95_s(gateway.flood, LIGHT)
    slowdown = p95_s(gateway.flood, LIGHT) / p95_s(gateway.quiet, LIGHT)
    equal = shares(gateway.equal)
    weighted = shares(gateway.weighted) / WEIGHT if gateway.weighted else 0.0
    failed = sum(gateway.flood.num_failed(name) for name in (HEAVY, LIGHT))
    return [
        (f"p95 beside the flood {gain:.1f} times better than vLLM's (5 wanted)", gain >= 5),
        (f"p95 beside the flood {slowdown:.2f} times the quiet one (3 at most)", slowdown <= 3),
        (f"equal weights: {equal:.2f} to 1 (within 10 %)", is_within(equal, 0.10)),
        (f"weights 3:1: {weighted * WEIGHT:.2f} to 1 (within 15 %)", is_within(weighted, 0.15)),
        (f"{failed} requests refused or failed beside the flood (none wanted)", not failed),
    ]


def is_within(ratio: float, share: float) -> bool:
    return 1 / (1 + share) <= ratio <= 1 + share


def shares(scene: Scene) -> float:
    """Tokens of the heavy tenant to those of the light one."""
    return scene.num_tokens(HEAVY) / max(1.0, scene.num_tokens(LIGHT))


def p95_s(scene: Scene, name: str) -> float:
    """Of a tenant that was never served: infinite."""
    times_s = scene.first_tokens_s(name)
    return quantile(times_s, 0.95) if times_s else math.inf


def heading(seconds: float) -> list[str]:
    return [
        f"{today_here()}; bundled W8A8 model, real engine, eager, {NUM_SEQS} sequences at once, "
        f"answers of {ANSWER} tokens; {seconds:.0f} s a scene. `make bench-fairness`.",
    ]


def table(seen: Mapping[str, Seen]) -> list[str]:
    rows: dict[str, Callable[[Seen], str]] = {
        f"`b`, one at a time beside {NUM_SEQS - 1} of `a`: first token p50 / p95 ms": (
            lambda each: first_tokens(each.quiet, LIGHT)
        ),
        f"`b`, one at a time beside {FLOOD} of `a`": lambda each: first_tokens(each.flood, LIGHT),
        f"`a` meanwhile, {FLOOD} in flight": lambda each: first_tokens(each.flood, HEAVY),
        f"tokens of `a` ({FLOOD} in flight) to `b` ({BACKLOG}), equal weights": (
            lambda each: f"{shares(each.equal):.2f}"
        ),
        "the same at weights 3:1": (
            lambda each: f"{shares(each.weighted):.2f}" if each.weighted else number(None)
        ),
        "tokens/s": lambda each: number(tokens_per_s(each.equal)),
    }
    lines = [table_row("", *seen), table_row(*["---"] * (1 + len(seen)))]
    return lines + [
        table_row(title, *(show_row(each) for each in seen.values()))
        for title, show_row in rows.items()
    ]


def first_tokens(scene: Scene, name: str) -> str:
    times_s = scene.first_tokens_s(name)
    if not times_s:
        return "never served"
    p50, p95 = (quantile(times_s, q) * 1e3 for q in (0.50, 0.95))
    return f"{p50:.0f} / {p95:.0f} ({len(times_s)} requests)"


def tokens_per_s(scene: Scene) -> float:
    return sum(map(scene.num_tokens, (HEAVY, LIGHT))) / (scene.ended_s - scene.begun_s)
