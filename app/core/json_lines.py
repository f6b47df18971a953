"""Files of JSON lines: an object on each; empty lines do not count."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.core.errors import AppError


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each object with the number of its line. Raises AppError naming what cannot be read."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, parse_line(line, f"Line {number} of {path}")
    except (OSError, UnicodeDecodeError) as error:
        raise AppError(f"{path} cannot be read.") from error


def parse_line(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise AppError(f"{where} is not JSON.") from error
    if not isinstance(row, dict):
        raise AppError(f"{where} is not an object.")
    return row
