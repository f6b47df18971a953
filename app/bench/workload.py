"""The requests of a run, made from a seed."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

from app.bench.lengths import Lengths
from app.core.errors import AppError

WORDS = [
    "harbour",
    "winter",
    "copper",
    "letter",
    "garden",
    "engine",
    "silver",
    "morning",
    "bridge",
    "paper",
    "river",
    "candle",
    "stone",
    "orchard",
    "window",
    "thunder",
    "market",
    "violin",
    "meadow",
    "compass",
    "ladder",
    "island",
    "pepper",
    "saddle",
    "lantern",
]

DEFAULT_MAX_TOKENS = 64


class TraceError(AppError):
    """A trace file that cannot be read; the sentence names the line."""


@dataclass(frozen=True)
class Ask:
    """One request to be made. `prompt_words` None asks a short sum; `output_tokens` None lets the
    model end its answer; `at_s` None leaves the time to the arrival process.
    """

    number: int
    prompt_words: int | None = None
    output_tokens: int | None = None
    at_s: float | None = None


@dataclass(frozen=True)
class Workload:
    """Workloads that differ in `variant` alone have prompts of the same lengths and words, which
    begin differently: a prefix cache that has seen one is no help with the other.
    """

    asks: tuple[Ask, ...]
    stream: bool = True
    seed: int = 0
    variant: str = ""

    @property
    def has_times(self) -> bool:
        return bool(self.asks) and all(ask.at_s is not None for ask in self.asks)

    def bodies(self, model: str) -> list[bytes]:
        dice = random.Random(self.seed)  # noqa: S311 - a workload, not a secret
        return [json.dumps(self.body(ask, model, dice)).encode() for ask in self.asks]

    def body(self, ask: Ask, model: str, dice: random.Random) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": model,
            "messages": [{"role": "user", "content": " ".join(self.words(ask, dice))}],
            "stream": self.stream,
            "max_tokens": ask.output_tokens or DEFAULT_MAX_TOKENS,
        }
        if self.stream:
            body["stream_options"] = {"include_usage": True}
        if ask.output_tokens is not None:
            body["ignore_eos"] = True
        return body

    def words(self, ask: Ask, dice: random.Random) -> Iterator[str]:
        if ask.prompt_words is None:
            yield f"What is {dice.randrange(100)} + {dice.randrange(100)}?"
            return
        yield f"{crc32(f'{self.variant} {ask.number}'.encode()):08x}"
        for _ in range(ask.prompt_words - 1):
            yield dice.choice(WORDS)


def draw_workload(
    num_requests: int,
    prompt_words: Lengths | None = None,
    output_tokens: Lengths | None = None,
    *,
    stream: bool = True,
    seed: int = 0,
) -> Workload:
    dice = random.Random(seed)  # noqa: S311 - a workload, not a secret
    asks = (
        Ask(
            number,
            prompt_words.draw(dice) if prompt_words else None,
            output_tokens.draw(dice) if output_tokens else None,
        )
        for number in range(num_requests)
    )
    return Workload(tuple(asks), stream, seed)


def read_trace(path: Path, *, stream: bool = True, seed: int = 0) -> Workload:
    """A file of JSON lines, each with `prompt_words` and `output_tokens`, and either all or none
    with `at_s`, seconds from the start."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TraceError(f"The trace {path} cannot be read.") from error
    asks = tuple(parse_trace_line(path, number, line) for number, line in enumerate(lines))
    if not asks:
        raise TraceError(f"The trace {path} is empty.")
    if len({ask.at_s is None for ask in asks}) > 1:
        raise TraceError(f"In the trace {path} some lines have at_s and some have not.")
    return Workload(asks, stream, seed)


def parse_trace_line(path: Path, number: int, line: str) -> Ask:
    try:
        values = json.loads(line)
        at_s = values.get("at_s")
        return Ask(
            number,
            positive(values["prompt_words"]),
            positive(values["output_tokens"]),
            None if at_s is None else float(at_s),
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise TraceError(f"Line {number + 1} of the trace {path} is not a request.") from error


def positive(number: Any) -> int:
    if not isinstance(number, int) or number < 1:
        raise ValueError
    return number
