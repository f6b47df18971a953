"""`python -m app compare-recipes`: every recipe on one model, in one table."""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from app.core.errors import AppError
from app.evaluate.command import (
    add_task_arguments,
    choose_engine,
    describe,
    describe_engine,
    look,
    make_task,
)
from app.evaluate.comparison.table import put_into, render
from app.evaluate.comparison.variants import SEED, VARIANTS, Variant, write_calibrations
from app.evaluate.observation import Observation, Task
from app.evaluate.report import Subject, compare, write_report
from app.evaluate.server import EngineChoice

ROOT = Path(__file__).resolve().parents[3]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_task_arguments(parser)
    parser.add_argument(
        "--out", type=Path, default=Path("out/recipes"), help="(default: %(default)s)"
    )
    parser.add_argument("--document", type=Path, help="Markdown file to put the table into")


def run(arguments: argparse.Namespace) -> int:
    arguments.out.mkdir(parents=True, exist_ok=True)
    calibrations = write_calibrations(arguments.out)
    for variant in VARIANTS:
        make(variant, arguments.baseline, arguments.out, calibrations)
    task, choice = make_task(arguments), choose_engine(arguments)
    baseline = (describe(arguments.baseline), look(arguments.baseline, task, choice))
    rows = []
    for variant in VARIANTS:
        path = arguments.out / variant.slug
        report = judge(path, task, choice, baseline)
        rows.append((variant, report, read_json(path / "provenance.json")))
    table = render(rows)
    if arguments.document:
        put_into(arguments.document, table)
    print(table)
    return 0


def make(variant: Variant, model: Path, out: Path, calibrations: dict[str, Path]) -> None:
    """Quantize, unless an earlier run of this comparison did it already."""
    path = out / variant.slug
    if path.exists():
        return
    command = [sys.executable, "-m", "app", "quantize", "--model", str(model), "--out", str(path)]
    finished = subprocess.run([*command, *variant.options(calibrations)], cwd=ROOT, check=False)
    if finished.returncode != 0:
        raise AppError(f"{variant.slug} could not be made; what it said is above.")


def judge(
    path: Path, task: Task, choice: EngineChoice, baseline: tuple[Subject, Observation]
) -> dict[str, Any]:
    """The report of a candidate; also left beside it."""
    candidate = (describe(path), look(path, task, choice))
    report = compare(task, baseline, candidate, describe_engine(choice), SEED)
    write_report(report, path)
    return report


def read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content
