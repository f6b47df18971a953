"""What the gateway and the host of grammar trials say to each other, as lines of JSON."""

from dataclasses import dataclass
from signal import SIGALRM


@dataclass(frozen=True)
class Job:
    """`tokenizer`: xgrammar's own description of one."""

    tokenizer: str
    deadline_s: float


@dataclass(frozen=True)
class Trial:
    """`constraints`: pairs of a kind and a text."""

    number: int
    constraints: list[list[str]]


@dataclass(frozen=True)
class Verdict:
    """`index` None: all of them compile, or `signal` ended the trial."""

    number: int
    index: int | None = None
    reason: str = ""
    signal: int = 0

    @property
    def is_good(self) -> bool:
        return self.index is None and not self.signal

    @property
    def is_late(self) -> bool:
        return self.signal == SIGALRM
