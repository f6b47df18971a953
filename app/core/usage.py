"""Usage records: one line of JSON each, and each carries the hash of the line before it.

The chain: a line's `previous` is the SHA-256 of the line before it in the same chain (of its bytes
without the newline), GENESIS for the first; `number` counts from 1. So an edited or missing line
shows at the next one; a cut tail shows against the head, which is also a metric.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

GENESIS = "0" * 64
# What sums are made of: a line without them is none of ours.
_NUMBERS = ("number", "prompt_tokens", "cached_tokens", "completion_tokens")
_NAMES = ("time", "key", "tenant", "model")


class UsageRecord(NamedTuple):
    """What one request used; nothing of what it said. `time` is its end, UTC, in ISO 8601."""

    id: str
    time: str
    key: str
    tenant: str
    model: str
    route: str
    status: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    queue_ms: float | None
    ttft_ms: float | None
    duration_ms: float
    finish_reason: str | None


@dataclass(frozen=True)
class Head:
    """The last line of a chain: its number and its hash."""

    number: int = 0
    hash: str = GENESIS

    @property
    def fingerprint(self) -> int:
        """The hash's first 48 bits: as much of it as a metric's float holds exactly."""
        return int(self.hash[:12], 16)

    def follow(self, record: UsageRecord) -> tuple[bytes, "Head"]:
        """The line of `record` after this head (without its newline), and the new head."""
        fields = {"number": self.number + 1, "previous": self.hash} | record._asdict()
        line = json.dumps(fields, separators=(",", ":")).encode()
        return line, Head(self.number + 1, hash_of(line))


@dataclass(frozen=True)
class JournalState:
    """What the metrics show: the chain's head, what waits, and what was lost since last time."""

    head: Head
    num_waiting: int
    num_dropped: int
    num_failures: int


def hash_of(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def parse_line(line: bytes) -> dict[str, Any]:
    """The fields of a line. Raises ValueError where it is not one of ours."""
    fields = json.loads(line)
    if not isinstance(fields, dict) or not all(isinstance(fields.get(n), int) for n in _NUMBERS):
        raise ValueError("not a usage record")
    if not all(isinstance(fields.get(name), str) for name in _NAMES):
        raise ValueError("not a usage record")
    return fields


def head_of(line: bytes) -> Head:
    """The head that a chain has when `line` is its last. Raises ValueError as `parse_line`."""
    number: int = parse_line(line)["number"]
    return Head(number, hash_of(line))


def fault_between(head: Head, fields: Mapping[str, Any]) -> str:
    """Why a line with `fields` cannot follow `head`; empty where it can."""
    if fields["number"] != head.number + 1:
        return f"record {fields['number']} stands after record {head.number}"
    if fields.get("previous") != head.hash:
        return f"record {fields['number']} does not fit the one before it: one of them was changed"
    return ""
