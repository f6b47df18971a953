"""The corpus: one YAML file per attack, with what it must be answered with.

    reference: where it was published (optional)
    why:       what it does to a server that takes it
    path:      /v1/chat/completions is the default; method: POST
    headers:   replace or add
    body:      an object, or raw: a list of texts, bytes as latin-1
    status:    what it has to be answered with
    code:      the envelope's code (OpenAI's family only)
    stage:     door (refused before the engine is asked) or engine

In a body `{$repeat: [value, count]}` is that text or that list of values, `{$nest: [key, depth]}`
objects in one another, `{$numbered: count}` an object of so many entries, and `{$listener: scheme}`
a URL at which the tests listen for a connection that must never come.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent
QUESTION = [{"role": "user", "content": "hi"}]
DEFAULTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": QUESTION},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {"messages": QUESTION, "max_tokens": 4},
    "/v1/messages/count_tokens": {"messages": QUESTION},
    "/tokenize": {"prompt": "hi"},
    "/detokenize": {"tokens": [1]},
}


@dataclass(frozen=True)
class Attack:
    name: str
    why: str
    status: int
    stage: str
    code: str = ""
    reference: str = ""
    method: str = "POST"
    path: str = "/v1/chat/completions"
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    raw: Any = None

    def content(self, listener: str = "127.0.0.1:9") -> bytes:
        """The bytes to send; what the API asks for besides is filled in."""
        if self.raw is not None:
            return "".join(expand(self.raw, listener)).encode("latin-1")
        whole = {"model": "bundled", **DEFAULTS.get(self.path, {})} | expand(self.body, listener)
        return json.dumps(whole).encode()

    def all_headers(self) -> dict[str, str]:
        return {"content-type": "application/json", **self.headers}


def nest(key: str, depth: int) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for _ in range(depth):
        nested = {key: nested}
    return nested


FORMS: dict[str, Callable[[Any, str], Any]] = {
    "$repeat": lambda given, _: given[0] * given[1],
    "$list": lambda given, listener: [expand(given[0], listener)] * given[1],
    "$nest": lambda given, _: nest(*given),
    "$numbered": lambda given, _: {str(number): 1 for number in range(given)},
    "$listener": lambda given, listener: f"{given}://{listener}/x",
}


def expand(value: Any, listener: str) -> Any:
    if isinstance(value, list):
        return [expand(each, listener) for each in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1 and (form := FORMS.get(next(iter(value)))):
        return form(next(iter(value.values())), listener)
    return {key: expand(inner, listener) for key, inner in value.items()}


def load_attacks() -> Iterator[Attack]:
    for path in sorted(FOLDER.glob("*.yaml")):
        yield Attack(name=path.stem, **yaml.safe_load(path.read_text(encoding="utf-8")))


ATTACKS = tuple(load_attacks())
