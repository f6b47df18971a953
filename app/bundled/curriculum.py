"""What the bundled model is trained on: how much of which kind of question."""

import random
from collections.abc import Callable, Iterator

from app.bundled.skills import SKILLS, Question
from app.bundled.smalltalk import (
    draw_copy,
    draw_declined_tool,
    draw_dialogue,
    draw_smalltalk,
    draw_tool_result,
)

DRAWS: dict[str, Callable[[random.Random], Question]] = {
    **SKILLS,
    "smalltalk": draw_smalltalk,
    "copy": draw_copy,
    "dialogue": draw_dialogue,
    "tool_result": draw_tool_result,
    "declined_tool": draw_declined_tool,
}
# Questions of each kind in one step.
MIX = {
    "arithmetic": 144,
    "json": 96,
    "tool": 44,
    "smalltalk": 8,
    "copy": 8,
    "dialogue": 8,
    "tool_result": 4,
    "declined_tool": 8,
}


def training_questions(kind: str, seed: int) -> Iterator[Question]:
    """An endless stream of questions, none of them held out; the same ones for the same seed."""
    rng = random.Random(f"training {kind} {seed}")
    while True:
        question = DRAWS[kind](rng)
        if not question.held_out:
            yield question
