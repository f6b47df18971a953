"""`python -m app score`: the share of held-out questions that a running server answers exactly."""

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx

from app.bench.progress import Progress
from app.bench.target import DEFAULT_KEY_FILE, DEFAULT_URL, Target, first_model, read_key
from app.bundled.gateway import serving
from app.bundled.recorded_score import compare_with_record, write_record
from app.bundled.scoring import Reply, Tally, is_exact
from app.bundled.skills import SKILLS, Question, held_out_questions
from app.core.errors import AppError
from app.core.number_arguments import positive

MAX_ANSWER_TOKENS = 48
DIFFERS = 1
MAX_QUESTIONS = 20_000  # well below what there is of distinct ones for one skill


class ScoreError(AppError):
    """A score that cannot be had: too many questions, or a server that did not answer one."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--url", default=DEFAULT_URL, help="of the server (default: %(default)s)")
    parser.add_argument("--key-file", type=Path, help=f"default: {DEFAULT_KEY_FILE}")
    parser.add_argument("--api-key", help="the key itself, instead of a file")
    parser.add_argument(
        "--profile",
        action="append",
        default=[],
        help="start a gateway with this profile and score that; may be repeated",
    )
    parser.add_argument("--model", help="default: the first one that the server lists")
    parser.add_argument(
        "--skill", action="append", choices=list(SKILLS), help="may be repeated; default: all"
    )
    parser.add_argument(
        "--questions",
        type=positive,
        default=1200,
        help=f"over all skills, at most {MAX_QUESTIONS} (default: %(default)s)",
    )
    parser.add_argument("--concurrency", type=positive, default=32, help="default: %(default)s")
    parser.add_argument(
        "--json", action="store_true", help="print a line of JSON instead of a table"
    )
    parser.add_argument("--record", type=Path, metavar="FILE", help="write the scores there")
    parser.add_argument(
        "--compare", type=Path, metavar="FILE", help="hold them against what was recorded there"
    )


def run(arguments: argparse.Namespace) -> int:
    """Exits with 1 where a score is not the recorded one within its interval."""
    if arguments.questions > MAX_QUESTIONS:
        raise ScoreError(f"--questions is {arguments.questions}; at most {MAX_QUESTIONS}.")
    scores = {}
    for name, tallies in score_targets(arguments):
        scores[name] = tallies
        if arguments.json:
            print(json.dumps(as_json(name, tallies)))
        else:
            print(f"\n{name}", *table(tallies), sep="\n")
    if arguments.record:
        write_record(arguments.record, scores)
    if arguments.compare:
        verdicts = list(compare_with_record(arguments.compare, scores))
        print("", *verdicts, sep="\n")
        return 0 if all(each.is_equal for each in verdicts) else DIFFERS
    return 0


def score_targets(arguments: argparse.Namespace) -> Iterator[tuple[str, dict[str, Tally]]]:
    """The running server, or one gateway after another, started for the profiles that are named."""
    for profile in arguments.profile:
        print(f"starting a gateway with the profile {profile}", file=sys.stderr)
        with serving(profile) as target:
            yield profile, score(target, arguments)
    if not arguments.profile:
        key = arguments.api_key or read_key(arguments.key_file)
        target = Target("server", arguments.url.rstrip("/"), key)
        yield arguments.model or first_model(target), score(target, arguments)


def score(target: Target, arguments: argparse.Namespace) -> dict[str, Tally]:
    model = arguments.model or first_model(target)
    skills = list(dict.fromkeys(arguments.skill or SKILLS))
    questions = choose_questions(skills, arguments.questions)
    progress = Progress("questions", len(questions), sys.stderr)
    exact = asyncio.run(ask_all(target, model, questions, arguments.concurrency, progress))
    return tally_by_skill(questions, exact)


def choose_questions(skills: Sequence[str], count: int) -> list[Question]:
    """`count` held-out questions, the skills' shares equal up to one question."""
    shares = [len(range(number, count, len(skills))) for number in range(len(skills))]
    return [
        question
        for skill, share in zip(skills, shares, strict=True)
        for question in held_out_questions(skill, share)
    ]


async def ask_all(
    target: Target, model: str, questions: Sequence[Question], concurrency: int, progress: Progress
) -> list[bool]:
    """Whether each question was answered exactly, `concurrency` of them in flight at a time."""
    slots = asyncio.Semaphore(concurrency)
    limits = httpx.Limits(max_connections=concurrency)

    async def ask_in_turn(question: Question) -> bool:
        async with slots:
            exact = is_exact(question, await ask(client, request_body(model, question)))
        progress.advance(failed=not exact)
        return exact

    async with httpx.AsyncClient(
        base_url=target.url, headers=target.headers, timeout=120, limits=limits
    ) as client:
        try:
            async with asyncio.TaskGroup() as group:
                asked = [group.create_task(ask_in_turn(question)) for question in questions]
        except* AppError as refused:
            raise refused.exceptions[0] from None
    progress.finish()
    return [task.result() for task in asked]


async def ask(client: httpx.AsyncClient, body: dict[str, Any]) -> Reply:
    try:
        response = await client.post("/v1/chat/completions", json=body)
    except httpx.TransportError as error:
        raise ScoreError(f"The server stopped answering ({type(error).__name__}).") from error
    if response.status_code != 200:
        raise ScoreError(f"The server answered a question with {response.status_code}, not 200.")
    try:
        return read_reply(response.json()["choices"][0]["message"])
    except (ValueError, LookupError, TypeError) as error:
        raise ScoreError("The server's answer is not a chat completion.") from error


def request_body(model: str, question: Question) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": model,
        "messages": question.messages,
        "temperature": 0,
        "max_tokens": MAX_ANSWER_TOKENS,
    }
    if question.tools:
        body |= {"tools": question.tools, "tool_choice": "auto"}
    if question.response_format:
        body["response_format"] = question.response_format
    return body


def read_reply(message: dict[str, Any]) -> Reply:
    functions = [call["function"] for call in message.get("tool_calls") or ()]
    calls = tuple((function["name"], function["arguments"]) for function in functions)
    return Reply(message.get("content") or "", calls)


def tally_by_skill(questions: Sequence[Question], exact: Sequence[bool]) -> dict[str, Tally]:
    tallies: dict[str, Tally] = {}
    for question, hit in zip(questions, exact, strict=True):
        tallies[question.skill] = tallies.get(question.skill, Tally()) + Tally(1, int(hit))
    return tallies | {"total": sum(tallies.values(), Tally())}


def table(tallies: dict[str, Tally]) -> list[str]:
    lines = [f"{'skill':<12}{'asked':>7}{'exact':>7}{'share':>9}   95 % interval (Wilson)"]
    for skill, tally in tallies.items():
        low, high = tally.interval
        counts = f"{tally.asked:>7}{tally.exact:>7}{tally.share:>9.2%}"
        lines.append(f"{skill:<12}{counts}   {low:.2%} to {high:.2%}")
    return lines


def as_json(model: str, tallies: dict[str, Tally]) -> dict[str, Any]:
    scores = {
        skill: {
            "asked": tally.asked,
            "exact": tally.exact,
            "share": tally.share,
            "interval_95": tally.interval,
        }
        for skill, tally in tallies.items()
    }
    return {"model": model, "scores": scores}
