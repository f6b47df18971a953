"""`python -m app plan`: what fits where, before anything is loaded."""

import argparse
import json
from pathlib import Path

from app.core.errors import SettingsError
from app.core.memory.advice import DECIDING, MEAN_TOKENS, Wanted, advise
from app.core.memory.plan import Plan, make_plan
from app.core.number_arguments import positive
from app.plan.checkpoint_source import read_shape
from app.plan.machine import find_device
from app.plan.picture import draw
from app.plan.profiles import MODELS, cards_table, engine_lines, gives, write_profiles
from app.plan.text import View, plan_lines, plan_values

DOES_NOT_FIT = 1
DEFAULT_MODEL = MODELS / "llama-3.1-8b-instruct-w8a8"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        nargs="?",
        default=str(DEFAULT_MODEL),
        help="a directory or a hub id (default: Llama-3.1-8B-Instruct in INT8 W8A8)",
    )
    parser.add_argument("--revision", help="the hub's commit or branch")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--gpu", metavar="CARD", help="a known card, such as a10 or h100")
    where.add_argument("--vram", metavar="SIZE", help="a GPU of this memory, such as 24GiB")
    where.add_argument("--cards", action="store_true", help="every known card, as a table")
    add_engine_arguments(parser)
    parser.add_argument("--mean-tokens", type=positive, default=MEAN_TOKENS, metavar="N")
    parser.add_argument(
        "--concurrency", type=positive, metavar="N", help="the longest context for N at once"
    )
    parser.add_argument("--json", action="store_true", help="values for programs, in bytes")
    parser.add_argument(
        "--write", type=Path, metavar="PATH", help="write a profile; with --cards, a folder of them"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw the memory")


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of `engine:` that decide memory; what is not given the planner chooses."""
    parser.add_argument("--gpu-memory-utilization", type=share, metavar="SHARE")
    for name in ("max-model-len", "max-num-seqs", "max-num-batched-tokens"):
        parser.add_argument(f"--{name}", type=positive, metavar="N")
    parser.add_argument("--dtype", choices=("auto", "bfloat16", "float16", "float32"))
    parser.add_argument("--kv-cache-dtype", choices=("auto", "fp8"))
    parser.add_argument("--tensor-parallel-size", type=positive, metavar="N")
    parser.add_argument("--enforce-eager", action="store_true", default=None)
    parser.add_argument("--cpu-kv-cache-gib", type=positive, metavar="GIB")


def share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError("it must be above 0 and at most 1")
    return value


def run(args: argparse.Namespace) -> int:
    return run_cards(args.write) if args.cards else run_plan(args)


def run_cards(folder: Path | None) -> int:
    if folder is None:
        print(*cards_table(), "", "Estimates: none of these cards has been measured.", sep="\n")
        return 0
    if not folder.is_dir():
        raise SettingsError(f"--write {folder} is not a directory.")
    print(*write_profiles(folder), sep="\n")
    return 0


def run_plan(args: argparse.Namespace) -> int:
    """Exits with 1 where the plan does not fit, so that a script can ask."""
    shape = read_shape(args.model, args.revision)
    device = find_device(args.gpu, args.vram)
    wanted = wanted_of(args)
    knobs = advise(shape, device, wanted, args.mean_tokens)
    view = View(
        plan=make_plan(shape, device, knobs),
        knobs=knobs,
        advised=make_plan(shape, device, advise(shape, device, Wanted(), args.mean_tokens)),
        given=tuple(name for name in DECIDING if getattr(args, name) is not None),
        mean_tokens=args.mean_tokens,
        concurrency=args.concurrency,
    )
    if args.json:
        print(json.dumps(plan_values(view), indent=2))
    else:
        print(*plan_lines(view), sep="\n")
    if args.plot:
        write_file(args.plot, draw(view.plan))
    if args.write:
        write_profile(args.write, view.plan, args)
    return 0 if view.plan.fits else DOES_NOT_FIT


def wanted_of(args: argparse.Namespace) -> Wanted:
    names = Wanted.__dataclass_fields__
    said = {name: getattr(args, name) for name in names}
    return Wanted(**{name: value for name, value in said.items() if value is not None})


def write_profile(path: Path, plan: Plan, args: argparse.Namespace) -> None:
    """A profile with the model and the plan's settings. Refused for a plan that does not fit."""
    if not plan.fits:
        raise SettingsError(f"{path} is not written: the plan does not fit.")
    model = ["model:", f"  path: {json.dumps(args.model)}"]
    if args.revision:
        model.append(f"  revision: {json.dumps(args.revision)}")
    model.append(f"  scheme: {plan.shape.scheme.name}")
    write_file(path, "\n".join([*gives(plan), *model, *engine_lines(plan)]) + "\n")


def write_file(path: Path, content: str) -> None:
    try:
        path.write_text(content)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror}.") from error
