"""Exact match: whether a reply is the expected answer, and how sure a share of them is."""

import json
import math
from dataclasses import dataclass
from typing import Any

from app.bundled.skills import Question


@dataclass(frozen=True)
class Reply:
    """What a chat completion holds: its text, and its calls as (name, arguments as JSON text)."""

    content: str = ""
    calls: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Tally:
    asked: int = 0
    exact: int = 0

    @property
    def share(self) -> float:
        return self.exact / self.asked if self.asked else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        return wilson_interval(self.exact, self.asked)

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.asked + other.asked, self.exact + other.exact)


def is_exact(question: Question, reply: Reply) -> bool:
    """Plain: the stripped text is equal. JSON: the parsed object is. Call: name and arguments are.

    Nothing but the expected form counts: a call with text beside it is a miss, and so is a
    text where a call was expected.
    """
    if question.skill == "tool":
        calls = [parse_call(call) for call in reply.calls]
        return not reply.content.strip() and same_json(calls, [question.expected])
    if reply.calls:
        return False
    if isinstance(question.expected, str):
        return reply.content.strip() == question.expected
    return same_json(parse_json(reply.content), question.expected)


def reply_from_text(text: str) -> Reply:
    """The reply that the llama3_json tool parser makes of a generated text."""
    parsed = parse_json(text)
    if isinstance(parsed, dict) and parsed.keys() == {"name", "parameters"}:
        return Reply(calls=((str(parsed["name"]), json.dumps(parsed["parameters"])),))
    return Reply(content=text)


def parse_call(call: tuple[str, str]) -> dict[str, Any]:
    name, arguments = call
    return {"name": name, "parameters": parse_json(arguments)}


def parse_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def same_json(one: Any, other: Any) -> bool:
    """Equal as JSON: `true` is not 1, and 42.0 is not 42."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def wilson_interval(exact: int, asked: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's 95 % interval for a share, which stays within 0 and 1 (Wilson 1927)."""
    if asked == 0:
        return 0.0, 1.0
    share = exact / asked
    centre = share + z * z / (2 * asked)
    spread = z * math.sqrt(share * (1 - share) / asked + z * z / (4 * asked * asked))
    scale = 1 + z * z / asked
    # Rounding must not push the share itself, at 0 or 1, out of its interval.
    return max(0.0, min(share, (centre - spread) / scale)), max(share, (centre + spread) / scale)
