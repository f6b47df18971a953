"""Reads a reply's bytes: when text came, how many tokens, what went wrong.

A stream's chunks are searched, not parsed: only the one with the usage is read as JSON.
"""

import json
import re
from collections.abc import Iterator

from app.bench.connection import Reply
from app.bench.outcome import Outcome

TEXT = re.compile(rb'"(?:content|text|reasoning|reasoning_content)":\s*"(?!")')
ERROR = re.compile(rb'^data: \{"error"', re.MULTILINE)
USAGE = re.compile(rb'"usage":\s*\{')
END = b"data: [DONE]"


def note_reply(outcome: Outcome, reply: Reply, *, stream: bool) -> None:
    outcome.ended_s = reply.times[-1] if reply.times else outcome.ended_s
    if reply.status != 200:
        outcome.error = f"status {reply.status}"
    elif stream:
        note_stream(outcome, reply)
    else:
        note_answer(outcome, b"".join(reply.pieces))


def note_stream(outcome: Outcome, reply: Reply) -> None:
    """A stream without its `[DONE]` is a failed request."""
    has_end = False
    for at_s, events in whole_events(reply):
        if TEXT.search(events):
            outcome.chunk_times.append(at_s)
        if USAGE.search(events):
            note_usage(outcome, events)
        if ERROR.search(events):
            outcome.error = "error event"
            return
        has_end = has_end or END in events
    if not has_end:
        outcome.error = "cut stream"


def whole_events(reply: Reply) -> Iterator[tuple[float, bytes]]:
    """The stream again, in parts that end where an event ends, with the time of their last byte."""
    rest = b""
    for at_s, piece in zip(reply.times, reply.pieces, strict=True):
        part = rest + piece if rest else piece
        end = part.rfind(b"\n\n") + 2
        if end == 1:
            rest = part
            continue
        rest = part[end:]
        yield at_s, part[:end]


def note_usage(outcome: Outcome, events: bytes) -> None:
    for line in events.splitlines():
        if line.startswith(b"data: {") and USAGE.search(line):
            note_answer(outcome, line[6:])


def note_answer(outcome: Outcome, body: bytes) -> None:
    try:
        usage = json.loads(body)["usage"]
        outcome.num_prompt_tokens = usage["prompt_tokens"]
        outcome.num_output_tokens = usage["completion_tokens"]
    except (ValueError, LookupError, TypeError):
        outcome.error = "bad response"
