"""A small comparison, as the evaluation would have seen it."""

import math
from typing import Any

from app.bundled.skills import Question
from app.evaluate.measures import Position
from app.evaluate.observation import Observation, Task
from app.evaluate.report import Subject, compare

BASELINE = Subject("models/bf16", "ba" * 32, 2_000_000, "unquantized")
CANDIDATE = Subject("models/<w8a8>", "ca" * 32, 1_000_000, "w8a8-int8")


def make_task(count: int = 20) -> Task:
    questions = [
        Question(skill, [{"role": "user", "content": f"{number}"}], str(number), held_out=True)
        for skill in ("arithmetic", "json")
        for number in range(count // 2)
    ]
    return Task(questions, [{"text": "a b c"}], 64, 20)


def make_observation(exact: list[bool], shift: float = 0.0) -> Observation:
    probabilities = {"1": 0.7 - shift, "2": 0.3 + shift}
    distribution = {token: math.log(p) for token, p in probabilities.items()}
    position = Position(distribution["1"], "1", distribution)
    halves = len(exact) // 2
    return Observation(exact, [None] * halves + [True] * halves, [position] * 10)


def make_report(lost: int = 1) -> dict[str, Any]:
    task = make_task()
    baseline = make_observation([True] * 20)
    candidate = make_observation([False] * lost + [True] * (20 - lost), shift=0.01)
    engine: dict[str, Any] = {
        "vllm": "0.32.0",
        "arguments": [],
        "tool_call_parser": None,
        "logprobs": 20,
    }
    return compare(task, (BASELINE, baseline), (CANDIDATE, candidate), engine, seed=0)
