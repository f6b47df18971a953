"""What one model does with the questions and the held-out text, through the served endpoint."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from app.bench.progress import Progress
from app.bundled.command import read_reply
from app.bundled.scoring import Reply, is_exact
from app.bundled.skills import Question
from app.core.errors import AppError
from app.evaluate.measures import Position
from app.evaluate.server import SERVED_NAME, Endpoint

CONCURRENCY = 32
MAX_TEXT_TOKENS = 2048

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Observation:
    """In the order of the questions and of the texts."""

    exact: list[bool]
    valid_json: list[bool | None]  # None where no `response_format` was asked for
    positions: list[Position]


@dataclass(frozen=True, slots=True)
class Task:
    questions: Sequence[Question]
    texts: Sequence[dict[str, Any]]  # {"messages": [...], "tools": ...} or {"text": ...}
    max_answer_tokens: int
    num_logprobs: int


async def observe(endpoint: Endpoint, task: Task, progress: Progress) -> Observation:
    async with endpoint.client() as client:

        async def ask_one(question: Question) -> Reply:
            reply = await ask(client, question, task.max_answer_tokens)
            progress.advance(failed=False)
            return reply

        async def score_one(text: dict[str, Any]) -> list[Position]:
            positions = await score(client, text, task.num_logprobs)
            progress.advance(failed=False)
            return positions

        replies = await in_turns(task.questions, ask_one)
        scored = await in_turns(task.texts, score_one)
    pairs = list(zip(task.questions, replies, strict=True))
    return Observation(
        exact=[is_exact(question, reply) for question, reply in pairs],
        valid_json=[is_valid_json(question, reply) for question, reply in pairs],
        positions=[position for positions in scored for position in positions],
    )


async def in_turns(items: Sequence[Item], act: Callable[[Item], Awaitable[Answer]]) -> list[Answer]:
    """`act` on every item, CONCURRENCY of them at a time."""
    slots = asyncio.Semaphore(CONCURRENCY)

    async def act_in_turn(item: Item) -> Answer:
        async with slots:
            return await act(item)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(act_in_turn(item)) for item in items]
    except* AppError as refused:
        raise refused.exceptions[0] from None
    return [task.result() for task in tasks]


async def ask(client: httpx.AsyncClient, question: Question, max_tokens: int) -> Reply:
    body: dict[str, Any] = {
        "messages": question.messages,
        "temperature": 0,
        "max_completion_tokens": max_tokens,
    }
    if question.tools:
        body |= {"tools": question.tools, "tool_choice": "auto"}
    if question.response_format:
        body["response_format"] = question.response_format
    answer = await post(client, "/v1/chat/completions", body)
    return read_reply(answer["choices"][0]["message"])


async def post(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    try:
        response = await client.post(path, json={"model": SERVED_NAME, **body})
    except httpx.TransportError as error:
        raise AppError(f"vLLM stopped answering ({type(error).__name__}).") from error
    if not response.is_success:
        raise AppError(f"vLLM answered {path} with {response.status_code}: {response.text[:300]}")
    answer: dict[str, Any] = response.json()
    return answer


def is_valid_json(question: Question, reply: Reply) -> bool | None:
    """Whether the reply is an object with the schema's required keys and no foreign ones."""
    if question.response_format is None:
        return None
    try:
        value = json.loads(reply.content)
    except ValueError:
        return False
    schema = question.response_format.get("json_schema", {}).get("schema", {})
    known = set(schema.get("properties", {}))
    return (
        isinstance(value, dict)
        and set(schema.get("required", ())) <= value.keys()
        and (schema.get("additionalProperties", True) is not False or value.keys() <= known)
    )


async def score(
    client: httpx.AsyncClient, text: dict[str, Any], num_logprobs: int
) -> list[Position]:
    """The text's positions: of a conversation the last message's, of plain text all but the first
    (nothing comes before it)."""
    token_ids, start = await tokenize(client, text)
    body = {
        "prompt": token_ids[:MAX_TEXT_TOKENS],
        "max_tokens": 1,
        "temperature": 0,
        "prompt_logprobs": num_logprobs,
    }
    answer = await post(client, "/v1/completions", body)
    seen = answer["choices"][0]["prompt_logprobs"]
    return [
        read_position(entry, str(token_id))
        for entry, token_id in list(zip(seen, token_ids, strict=False))[start:]
    ]


async def tokenize(client: httpx.AsyncClient, text: dict[str, Any]) -> tuple[list[int], int]:
    """The token ids, and the first that is scored."""
    messages = text.get("messages")
    if not messages:
        return await token_ids_of(client, {"prompt": text.get("text", "")}), 1
    tools = {"tools": text["tools"]} if text.get("tools") else {}
    whole = {"messages": messages, "add_generation_prompt": False, **tools}
    asked = {"messages": messages[:-1], "add_generation_prompt": True, **tools}
    token_ids, before = [await token_ids_of(client, body) for body in (whole, asked)]
    return token_ids, max(1, common_prefix(token_ids, before))


async def token_ids_of(client: httpx.AsyncClient, body: dict[str, Any]) -> list[int]:
    token_ids: list[int] = (await post(client, "/tokenize", body))["tokens"]
    return token_ids


def common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((number for number, (a, b) in pairs if a != b), min(len(one), len(other)))


def read_position(entry: dict[str, dict[str, Any]], token_id: str) -> Position:
    """vLLM lists the most likely tokens and, where it is not one of them, the real one."""
    likeliest = min(entry, key=lambda token: entry[token]["rank"])
    return Position(
        logprob=entry[token_id]["logprob"],
        likeliest=likeliest,
        distribution={token: facts["logprob"] for token, facts in entry.items()},
    )
