"""The requests of a run, made from a seed: the same for every target and every repetition."""

import random
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Workload:
    """`output_tokens` None lets the model end its answer by itself."""

    num_requests: int
    output_tokens: int | None = None
    stream: bool = True
    seed: int = 0


def chat_bodies(workload: Workload, model: str) -> list[dict[str, Any]]:
    """Chat requests that differ from each other, so that no prefix cache answers for the model."""
    dice = random.Random(workload.seed)  # noqa: S311 - a workload, not a secret
    return [chat_body(workload, model, dice) for _ in range(workload.num_requests)]


def chat_body(workload: Workload, model: str, dice: random.Random) -> dict[str, Any]:
    question = f"What is {dice.randrange(100)} + {dice.randrange(100)}?"
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "stream": workload.stream,
        "max_tokens": workload.output_tokens or 64,
    }
    if workload.stream:
        body["stream_options"] = {"include_usage": True}
    if workload.output_tokens is not None:
        body["ignore_eos"] = True
    return body
