# ruff: noqa: T201 (a command, run by hand)
"""Write the chart's table of values into its README from the comments in values.yaml.

    python -m deploy.helm.value_table           rewrite the README
    python -m deploy.helm.value_table --check   exit 1 when it is stale

The comment lines directly above a value are its description; a value without one is an error.
"""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parent / "w8a8-gateway"
START, END = "<!-- values: made by value_table.py -->", "<!-- end of values -->"
KEY = re.compile(r"(?P<indent> *)(?P<key>[A-Za-z_]\w*):")


@dataclass(frozen=True)
class Value:
    path: str
    default: Any
    description: str


def main(arguments: list[str]) -> int:
    readme = CHART / "README.md"
    old = readme.read_text()
    head, _, rest = old.partition(START)
    tail = rest.partition(END)[2]
    new = f"{head}{START}\n{render(read_values(CHART / 'values.yaml'))}{END}{tail}"
    if arguments == ["--check"]:
        return int(new != old)
    readme.write_text(new)
    print(f"wrote {readme.name}")
    return 0


def render(values: list[Value]) -> str:
    rows = [f"| `{v.path}` | `{json.dumps(v.default)}` | {v.description} |" for v in values]
    return "\n".join(["| value | default | meaning |", "|---|---|---|", *rows, ""])


def read_values(path: Path) -> list[Value]:
    text = path.read_text()
    comments = read_comments(text)
    return [
        Value(name, default, " ".join([*comments.get(parent_of(name), []), *comments[name]]))
        for name, default in leaves(yaml.safe_load(text))
    ]


def parent_of(name: str) -> str:
    return name.rpartition(".")[0]


def leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def read_comments(text: str) -> dict[str, list[str]]:
    """The comment lines above each key, by the key's dotted path; keys without one are left out."""
    found: dict[str, list[str]] = {}
    path: list[tuple[int, str]] = []
    pending: list[str] = []
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            pending.append(line.lstrip().removeprefix("#").strip())
        elif match := KEY.match(line):
            indent = len(match["indent"])
            path = [*(entry for entry in path if entry[0] < indent), (indent, match["key"])]
            if pending:
                found[".".join(key for _, key in path)] = pending
            pending = []
        else:
            pending = []
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
