"""What a soak asks for: requests of every kind that a day brings, good ones and bad ones."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from typing import Any

Body = dict[str, Any]
LONGEST_ANSWER = 64
SCHEMA = {
    "type": "object",
    "properties": {"sum": {"type": "integer"}, "kind": {"enum": ["plus", "minus"]}},
    "required": ["sum", "kind"],
    "additionalProperties": False,
}
TOOL = {
    "name": "get_weather",
    "description": "The weather in a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


class Leaving(StrEnum):
    """When the client goes away."""

    NEVER = "never"
    IN_STREAM = "in the stream"
    WAITING = "waiting"


@dataclass(frozen=True)
class Ask:
    """One request. `expected`: the status of its answer, where it stays for one."""

    kind: str
    path: str
    body: Body
    expected: int = 200
    leaving: Leaving = Leaving.NEVER
    has_key: bool = True


Make = Callable[[str], Body]


@dataclass(frozen=True)
class Kind:
    """`share`: of a hundred requests. `make`: the body that asks a question."""

    name: str
    share: int
    path: str
    make: Make
    expected: int = 200
    leaving: Leaving = Leaving.NEVER
    has_key: bool = True

    def ask(self, question: str) -> Ask:
        body = self.make(question)
        return Ask(self.name, self.path, body, self.expected, self.leaving, self.has_key)


def chat(**more: Any) -> Make:
    def make(question: str) -> Body:
        messages = [{"role": "user", "content": question}]
        return {"messages": messages, "max_tokens": LONGEST_ANSWER, **more}

    return make


def completion(**more: Any) -> Make:
    return lambda question: {"prompt": question, "max_tokens": LONGEST_ANSWER, **more}


def response(**more: Any) -> Make:
    return lambda question: {"input": question, "max_output_tokens": LONGEST_ANSWER, **more}


CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
RESPONSES, MESSAGES = "/v1/responses", "/v1/messages"
STREAM: Body = {"stream": True}
LONG: Body = {"max_tokens": 1500, "ignore_eos": True}
PROBABLE: Body = {"logprobs": True, "top_logprobs": 2}
CALL: Body = {
    "tools": [{"type": "function", "function": TOOL}],
    "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
}
FORMAT: Body = {
    "response_format": {"type": "json_schema", "json_schema": {"name": "sum", "schema": SCHEMA}}
}
NO_REGEX: Body = {"structured_outputs": {"regex": "("}}
IN_STREAM, WAITING = Leaving.IN_STREAM, Leaving.WAITING

KINDS = (
    Kind("chat", 10, CHAT, chat()),
    Kind("chat, streamed", 20, CHAT, chat(**STREAM)),
    Kind("chat with log probabilities, streamed", 4, CHAT, chat(**STREAM, **PROBABLE)),
    Kind("completions, two answers", 6, COMPLETIONS, completion(n=2)),
    Kind("completions, streamed", 6, COMPLETIONS, completion(**STREAM)),
    Kind("responses, streamed", 6, RESPONSES, response(**STREAM)),
    Kind("messages", 5, MESSAGES, chat()),
    Kind("messages, streamed", 5, MESSAGES, chat(**STREAM)),
    Kind("tool call", 6, CHAT, chat(**CALL)),
    Kind("schema", 6, CHAT, chat(**FORMAT)),
    Kind("left in a stream", 6, CHAT, chat(**STREAM | LONG), leaving=IN_STREAM),
    Kind("left in a stream of messages", 3, MESSAGES, chat(**STREAM), leaving=IN_STREAM),
    Kind("left while waiting", 6, CHAT, chat(**LONG), leaving=WAITING),
    Kind("unknown field", 3, CHAT, chat(nonsense=1), 400),
    Kind("beyond the context", 2, CHAT, chat(max_tokens=1 << 20), 400),
    Kind("unknown model", 2, CHAT, chat(model="nobody"), 404),
    Kind("expression that does not compile", 2, CHAT, chat(**NO_REGEX), 400),
    Kind("no key", 2, CHAT, chat(), 401, has_key=False),
)


def draw(seed: int) -> Iterator[Ask]:
    """Without end; the same seed draws the same."""
    dice = random.Random(seed)  # noqa: S311 - a workload, not a secret
    shares = [kind.share for kind in KINDS]
    for number in count(seed):
        (kind,) = dice.choices(KINDS, shares)
        yield kind.ask(f"What is {number % 97} + {dice.randrange(10)}?")
