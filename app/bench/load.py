"""Sends a run's requests and notes when each answer came."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx

from app.bench.outcome import Outcome
from app.bench.progress import Progress
from app.bench.target import Target

TIMEOUT = httpx.Timeout(300, connect=10)


async def run_closed_loop(
    target: Target, bodies: Sequence[dict[str, Any]], concurrency: int, progress: Progress
) -> list[Outcome]:
    """Keeps `concurrency` requests in flight until all of `bodies` have been answered."""
    waiting = iter(bodies)
    outcomes: list[Outcome] = []
    limits = httpx.Limits(max_connections=concurrency)

    async def work(client: httpx.AsyncClient) -> None:
        for body in waiting:
            outcome = await send(client, body)
            outcomes.append(outcome)
            progress.advance(failed=outcome.error is not None)

    async with (
        httpx.AsyncClient(
            base_url=target.url, headers=target.headers, timeout=TIMEOUT, limits=limits
        ) as client,
        asyncio.TaskGroup() as workers,
    ):
        for _ in range(concurrency):
            workers.create_task(work(client))
    progress.finish()
    return outcomes


async def send(client: httpx.AsyncClient, body: dict[str, Any]) -> Outcome:
    now = time.monotonic()
    outcome = Outcome(due_s=now, started_s=now)
    try:
        async with client.stream("POST", "/v1/chat/completions", json=body) as response:
            if response.status_code != 200:
                outcome.error = f"status {response.status_code}"
            elif body["stream"]:
                await read_stream(response.aiter_lines(), outcome)
            else:
                note_usage(outcome, json.loads(await response.aread()).get("usage"))
    except (httpx.TransportError, json.JSONDecodeError) as error:
        outcome.error = type(error).__name__
    outcome.ended_s = time.monotonic()
    return outcome


async def read_stream(lines: AsyncIterator[str], outcome: Outcome) -> None:
    """Notes each chunk that carries text; a stream without its `[DONE]` is a failed request."""
    async for line in lines:
        if line == "data: [DONE]":
            return
        if not line.startswith("data: "):
            continue
        event = json.loads(line[6:])
        if "error" in event:
            outcome.error = "error event"
            return
        if any(choice["delta"].get("content") for choice in event["choices"]):
            outcome.chunk_times.append(time.monotonic())
        note_usage(outcome, event.get("usage"))
    outcome.error = "cut stream"


def note_usage(outcome: Outcome, usage: dict[str, int] | None) -> None:
    if usage:
        outcome.num_prompt_tokens = usage["prompt_tokens"]
        outcome.num_output_tokens = usage["completion_tokens"]
