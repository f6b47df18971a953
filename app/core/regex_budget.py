"""How long a regular expression is when its repetitions are written out.

No parser: what is not well formed is left to the compiler. Counted repetition is what makes a short
pattern large: `((a{100}){100}){100}` has a million states.
"""

import re
from dataclasses import dataclass

_TIMES = re.compile(r"\{(\d+)(?:,(\d*))?\}")
_ENOUGH = 10**9  # more than any budget; keeps the products small


@dataclass
class _Group:
    """What is inside one pair of parentheses so far: its size, and that of its last atom."""

    size: int = 0
    last: int = 0

    def add(self, atom: int) -> None:
        self.size += atom
        self.last = atom


def written_out(pattern: str) -> int:
    """The number of atoms of `pattern` with every `{m,n}` written out, nested ones multiplied."""
    groups = [_Group()]
    position = 0
    while position < len(pattern):
        char = pattern[position]
        times = _TIMES.match(pattern, position) if char == "{" else None
        if times is not None:
            here = groups[-1]
            repeated = here.last * (most_times(times) - 1)
            here.size = min(here.size + repeated, _ENOUGH)
            here.last = min(here.last + repeated, _ENOUGH)
            position = times.end()
            continue
        if char == "(":
            groups.append(_Group())
        elif char == ")":
            if len(groups) > 1:
                inner = groups.pop()
                groups[-1].add(max(inner.size, 1))
        elif char not in "*+?|^$":
            groups[-1].add(1)
        position = end_of_atom(pattern, position)
    return sum(group.size for group in groups)


def most_times(match: "re.Match[str]") -> int:
    """`{3}` and `{3,}` are three, `{3,5}` is five; never less than one."""
    counts = [int(text.lstrip("0")[:10] or 0) for text in match.groups() if text]
    return max(1, *counts)


def end_of_atom(pattern: str, start: int) -> int:
    """Behind the character, escape or class that begins at `start`."""
    if pattern[start] == "\\":
        return start + 2
    if pattern[start] != "[":
        return start + 1
    position = start + 1
    while position < len(pattern) and (pattern[position] != "]" or position == start + 1):
        position += 2 if pattern[position] == "\\" else 1
    return position + 1
