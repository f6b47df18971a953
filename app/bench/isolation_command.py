"""`python -m app bench-isolation`: what long prompts and bad schemas cost a neighbour's stream."""

import argparse
import asyncio
import itertools
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from app.bench.comparison import write_section
from app.bench.connection import Client
from app.bench.neighbour import Disturb, Gaps, Neighbour, medians
from app.bench.peers import EXECUTOR, GatewayModel, plan_gateway
from app.bench.report import today_here
from app.bench.running_servers import running_servers
from app.bench.server_process import ServerPlan
from app.bench.table import table_row

FOLDER = Path(".cache/bench")
MODEL = "bundled"
PROMPT_TOKENS = 100_000
NUM_AT_ONCE = 2
STEP_MS = 20
NUM_TOKENS = {"real": 1000, "simulated": 250}  # some seconds
NUM_RULES = 1500
Runs = dict[tuple[str, str], list[Gaps]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeat", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--write", type=Path, help="put the table into this Markdown file")


def run(arguments: argparse.Namespace) -> int:
    FOLDER.mkdir(parents=True, exist_ok=True)
    runs: Runs = {}
    with running_servers(plans(), MODEL, FOLDER / "logs") as servers:
        for name, (subject, _) in servers.items():
            client = Client(subject.target)
            neighbour = Neighbour(client, MODEL, NUM_TOKENS[name])
            for load, gaps in asyncio.run(measure(neighbour, arguments.repeat)).items():
                runs[name, load] = gaps
    lines = table(runs)
    print("\n".join(lines))
    if arguments.write:
        write_section(arguments.write, lines, "isolation")
    return 0


def plans() -> list[ServerPlan]:
    """The real engine, whose context such a prompt exceeds, and a simulated one that takes it."""
    device = {"step_ms": STEP_MS, "token_us": 0, "answer_tokens": None}
    long = (
        "model.allow_unquantized=true",
        f"engine.max_model_len={PROMPT_TOKENS + 8192}",
        f"engine.extra_args=--distributed-executor-backend {EXECUTOR}",
    )
    environment = {
        "SIMULATED_DEVICE": json.dumps(device),
        "VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1",  # the bundled model's own context is shorter
    }
    return [
        plan_gateway(GatewayModel("real", "bundled", ("engine.enforce_eager=true",)), FOLDER),
        plan_gateway(GatewayModel("simulated", "bundled", long, environment), FOLDER),
    ]


async def measure(neighbour: Neighbour, repetitions: int) -> dict[str, list[Gaps]]:
    """Each load in turn, and that again: what the machine does meanwhile hits all of them."""
    loads = disturbances(neighbour.client)
    await neighbour.read()  # warm-up
    found: dict[str, list[Gaps]] = {name: [] for name in loads}
    for repetition, name in itertools.product(range(repetitions), loads):
        print(f"{name}, {repetition + 1} of {repetitions}", file=sys.stderr)
        found[name].append(await neighbour.read(loads[name], NUM_AT_ONCE))
    neighbour.client.close()
    return found


def disturbances(client: Client) -> Mapping[str, Disturb | None]:
    return {
        "nobody else": None,
        "prompts of 100,000 tokens": sends(client, long_prompts()),
        "grammars that take too long": sends(client, slow_grammars()),
    }


def sends(client: Client, bodies: Iterator[bytes]) -> Disturb:
    async def disturb() -> None:
        await client.exchange(client.request(next(bodies)), 60)

    return disturb


def long_prompts() -> Iterator[bytes]:
    """No two begin alike: no cache has them. A character is a token of the bundled model."""
    for number in itertools.count():
        text = f"{number} " + "x " * (PROMPT_TOKENS // 2)
        yield body(messages=[{"role": "user", "content": text[:PROMPT_TOKENS]}])


def slow_grammars() -> Iterator[bytes]:
    """Rules that lead from each to the next, any number of letters on the way: 50 KB, more than
    there is time to compile. No two alike: what became of one is remembered."""
    rules = [f'r{n} ::= "a"* "b"* r{(n + 1) % NUM_RULES} | "c"' for n in range(NUM_RULES)]
    choice = " | ".join(f"r{n}" for n in range(NUM_RULES))
    for number in itertools.count():
        grammar = "\n".join([f'root ::= {choice} | "{number}"', *rules])
        yield body(structured_outputs={"grammar": grammar})


def body(**fields: object) -> bytes:
    default = {"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}
    return json.dumps(default | fields).encode()


def table(runs: Runs) -> list[str]:
    lines = [
        f"{today_here()}; medians; {NUM_AT_ONCE} senders at a time; milliseconds between the "
        "neighbour's tokens.",
        "",
        table_row("engine", "meanwhile", "p99", "worst", "sent"),
        table_row(*["---"] * 5),
    ]
    for (engine, load), gaps in runs.items():
        p99, worst = (f"{seconds * 1e3:.1f}" for seconds in medians(gaps))
        sent = sum(each.num_disturbances for each in gaps)
        lines.append(table_row(engine, load, p99, worst, str(sent)))
    return lines
