"""Questions with exact answers: what the bundled model is trained on and scored by.

Held-out questions never meet training: the operands of a sum, or the function and its value, are
hashed, and an eighth of the hashes belongs to the held-out side in every skill and phrasing.
"""

import json
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from app.bundled.functions import ARGUMENTS, FUNCTIONS, NOUNS, VERBS, WORDS, Function, made_up

HELD_OUT_SHARE = 8  # one key in eight is held out
HELD_OUT_SEED = 2026

SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a helpful assistant. Be brief.",
    "Answer exactly.",
)

SUM_PHRASES = {
    "+": (
        "What is {a} + {b}?",
        "What's {a} + {b}?",
        "{a} + {b}",
        "{a}+{b}",
        "{a} + {b} =",
        "{a} + {b} = ?",
        "Compute {a} + {b}.",
        "Calculate {a} + {b}.",
        "What is {a} plus {b}?",
        "How much is {a} plus {b}?",
        "Add {a} and {b}.",
    ),
    "-": (
        "What is {a} - {b}?",
        "What's {a} - {b}?",
        "{a} - {b}",
        "{a}-{b}",
        "{a} - {b} =",
        "{a} - {b} = ?",
        "Compute {a} - {b}.",
        "Calculate {a} - {b}.",
        "What is {a} minus {b}?",
        "How much is {a} minus {b}?",
        "Subtract {b} from {a}.",
    ),
}
JSON_KEYS = ("answer", "answer", "answer", "result", "value")
JSON_PHRASES = (
    '{sum} Answer in JSON with the key "{key}".',
    '{sum} Reply with a JSON object with the key "{key}".',
    '{sum} Answer as JSON: {{"{key}": number}}',
    '{sum} Give a JSON object {{"{key}": ...}}.',
)

Message = dict[str, Any]


@dataclass(frozen=True)
class Question:
    """One conversation to answer.

    `expected` is the text of a plain answer, the object of a JSON answer, or for a call
    `{"name": ..., "parameters": {...}}`.
    """

    skill: str
    messages: list[Message]
    expected: str | dict[str, Any]
    held_out: bool
    tools: list[dict[str, Any]] | None = None
    response_format: dict[str, Any] | None = None

    @property
    def answer(self) -> str:
        """The text that the model is trained to write."""
        return self.expected if isinstance(self.expected, str) else json.dumps(self.expected)


def is_held_out(key: str) -> bool:
    return zlib.crc32(key.encode()) % HELD_OUT_SHARE == 0


def draw_arithmetic(rng: random.Random) -> Question:
    text, value, held_out = draw_sum(rng)
    return Question("arithmetic", conversation(rng, text), str(value), held_out)


def draw_json(rng: random.Random) -> Question:
    text, value, held_out = draw_sum(rng)
    key = rng.choice(JSON_KEYS)
    asked = rng.choice(JSON_PHRASES).format(sum=text, key=key)
    return Question(
        "json",
        conversation(rng, asked),
        {key: value},
        held_out,
        response_format=integer_format(key),
    )


def draw_tool(rng: random.Random) -> Question:
    """A request that the offered function answers; a third of the functions are made up."""
    function = draw_function(rng)
    value = draw_value(rng, function)
    text = rng.choice(function.requests).format(value)
    return Question(
        "tool",
        conversation(rng, text),
        {"name": function.name, "parameters": {function.argument: value}},
        is_held_out(f"{function.name}({value})"),
        tools=[offer(rng, function)],
    )


SKILLS: dict[str, Callable[[random.Random], Question]] = {
    "arithmetic": draw_arithmetic,
    "json": draw_json,
    "tool": draw_tool,
}


def held_out_questions(skill: str, count: int, seed: int = HELD_OUT_SEED) -> list[Question]:
    """`count` distinct held-out questions; the same ones for the same seed."""
    rng = random.Random(f"held out {skill} {seed}")
    questions: dict[str, Question] = {}
    while len(questions) < count:
        question = SKILLS[skill](rng)
        if question.held_out:
            questions.setdefault(json.dumps([question.messages, question.tools]), question)
    return list(questions.values())


def draw_sum(rng: random.Random) -> tuple[str, int, bool]:
    """A sum of one- and two-digit numbers: its text, its value, and whether it is held out."""
    operator = rng.choice("+-")
    a, b = draw_operand(rng), draw_operand(rng)
    text = rng.choice(SUM_PHRASES[operator]).format(a=a, b=b)
    # The order of the operands is not part of the key: 3 + 5 must not give 5 + 3 away.
    held_out = is_held_out(f"{min(a, b)}{operator}{max(a, b)}")
    return text, a + b if operator == "+" else a - b, held_out


def draw_operand(rng: random.Random) -> int:
    return rng.randrange(10) if rng.random() < 0.25 else rng.randrange(10, 100)


def draw_function(rng: random.Random) -> Function:
    """One of the catalogue, a fifth of them with another argument name; or a made-up one."""
    if rng.random() < 1 / 3:
        takes = rng.choice(list(ARGUMENTS))
        return made_up(rng.choice(VERBS), rng.choice(NOUNS), rng.choice(ARGUMENTS[takes]), takes)
    function = rng.choice(FUNCTIONS)
    if rng.random() < 0.2:
        return replace(function, argument=rng.choice(ARGUMENTS[function.takes]))
    return function


def draw_value(rng: random.Random, function: Function) -> int | str:
    if function.takes == "number":
        return rng.randrange(10 ** rng.randint(1, 3))
    return rng.choice(WORDS[function.takes])


def conversation(rng: random.Random, text: str) -> list[Message]:
    """The user's turn, behind a system prompt in a fifth of the conversations."""
    user = {"role": "user", "content": text}
    if rng.random() < 0.2:
        return [{"role": "system", "content": rng.choice(SYSTEM_PROMPTS)}, user]
    return [user]


def offer(rng: random.Random, function: Function) -> dict[str, Any]:
    """The function in OpenAI's form, with its description in two offers of three."""
    number = rng.choice(("integer", "integer", "integer", "number"))
    schema = {"type": number if function.takes == "number" else "string"}
    if rng.random() < 0.2:
        schema["description"] = f"The {function.argument}."
    parameters = {
        "type": "object",
        "properties": {function.argument: schema},
        "required": [function.argument],
    }
    described = {"description": function.description} if rng.random() < 2 / 3 else {}
    return {
        "type": "function",
        "function": {"name": function.name, **described, "parameters": parameters},
    }


def integer_format(key: str) -> dict[str, Any]:
    """OpenAI's `response_format` for an object with one integer under `key`."""
    schema = {
        "type": "object",
        "properties": {key: {"type": "integer"}},
        "required": [key],
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": key, "schema": schema}}
