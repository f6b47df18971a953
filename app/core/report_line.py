"""What a process tells the one that started it: JSON on a line of its own standard output, between
all that vLLM logs there."""

import json
import sys
from typing import Any

MARK = "report: "


def tell(values: dict[str, Any]) -> None:
    """On a new line, whatever was printed before it without an end."""
    sys.stdout.write(f"\n{MARK}{json.dumps(values)}\n")
    sys.stdout.flush()


def read_report(line: str) -> dict[str, Any] | None:
    """None for any other line."""
    if not line.startswith(MARK):
        return None
    values: dict[str, Any] = json.loads(line.removeprefix(MARK))
    return values


def find_report(output: str) -> dict[str, Any] | None:
    """The first among the lines of a process that has ended."""
    return next(filter(None, map(read_report, output.splitlines())), None)
