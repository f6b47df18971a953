"""What a GPU did in some steps of the engine, by kind, from PyTorch's trace of them."""

import gzip
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.bench.table import table_row
from app.core.errors import AppError

ON_GPU = {"kernel", "gpu_memcpy", "gpu_memset"}
OTHER = "other"
# The first that a kernel's name holds. The names are those in vLLM's and PyTorch's sources, and of
# what they call; what matches none is listed by its name as "other".
KINDS = (
    ("KV cache write", re.compile(r"reshape_and_cache|cache_kernel", re.I)),
    ("attention", re.compile(r"flash|fmha|attention|attn", re.I)),
    ("matrix products", re.compile(r"cutlass|gemm|gemv|nvjet|scaled_mm|splitk|wgmma|xmma", re.I)),
    ("quantize activations", re.compile(r"quant", re.I)),
    ("sampling", re.compile(r"argmax|sampl|softmax|topk|penalt|gumbel|logit", re.I)),
    ("norm, rotary, activation", re.compile(r"norm|rotary|silu|act_and_mul|triton_", re.I)),
    ("copies", re.compile(r"memcpy|memset|copy", re.I)),
)


class TraceError(AppError):
    """A trace that cannot be read, or in which no GPU works."""


@dataclass(frozen=True, slots=True)
class Event:
    """One kernel or copy; microseconds."""

    name: str
    start_us: float
    duration_us: float

    @property
    def end_us(self) -> float:
        return self.start_us + self.duration_us

    @property
    def kind(self) -> str:
        return next((kind for kind, marks in KINDS if marks.search(self.name)), OTHER)


def read_events(path: Path) -> list[Event]:
    """In the order in which they began."""
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        entries = json.loads(raw)["traceEvents"]
        events = [parse_event(each) for each in entries if each.get("cat") in ON_GPU]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise TraceError(f"The trace {path} cannot be read.") from error
    if not events:
        raise TraceError(f"No GPU works in the trace {path}: profile on a machine that has one.")
    return sorted(events, key=lambda event: event.start_us)


def parse_event(entry: dict[str, Any]) -> Event:
    return Event(str(entry["name"]), float(entry["ts"]), float(entry["dur"]))


def busy_us(events: Sequence[Event]) -> float:
    """How long anything ran at all; what runs at the same time counts once."""
    total, until = 0.0, events[0].start_us
    for event in events:
        total += max(0.0, event.end_us - max(event.start_us, until))
        until = max(until, event.end_us)
    return total


def profile_lines(name: str, events: Sequence[Event], num_steps: int) -> Iterator[str]:
    """A row for each kind, the longest first, and how long the GPU waited for the host."""
    span = max(event.end_us for event in events) - events[0].start_us
    yield table_row(name, "µs per step", "of the time", "launches per step", "longest kernel")
    yield table_row(*["---"] * 5)
    rows = []
    for kind in {event.kind for event in events}:
        own = [event for event in events if event.kind == kind]
        total = sum(event.duration_us for event in own)
        rows.append((total, kind, len(own), max(own, key=lambda event: event.duration_us).name))
    for total, kind, count, longest in sorted(rows, reverse=True):
        cells = (f"{total / num_steps:.0f}", f"{total / span:.1%}", f"{count / num_steps:.0f}")
        yield table_row(kind, *cells, f"`{longest[:80].replace('|', ' ')}`")
    idle = span - busy_us(events)
    waits = (f"{idle / num_steps:.0f}", f"{idle / span:.1%}", "", "")
    yield table_row("nothing: waits for the host", *waits)
