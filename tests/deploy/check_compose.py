"""Runs in `.venv-deploy`: which rules of the Compose specification's schema documents break.

stdin: a list of Compose documents. stdout: for each, a list of sentences.
"""

import json
import sys
from importlib.metadata import files
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]

SCHEMA = "check_jsonschema/builtin_schemas/vendor/compose-spec.json"


def main() -> None:
    (path,) = (file for file in files("check-jsonschema") or () if str(file) == SCHEMA)
    schema = json.loads(Path(str(path.locate())).read_text())
    validator = jsonschema.Draft202012Validator(schema)
    found = [[describe(error) for error in validator.iter_errors(d)] for d in json.load(sys.stdin)]
    json.dump(found, sys.stdout)


def describe(error: Any) -> str:
    return f"{'.'.join(map(str, error.absolute_path))}: {error.message}"


if __name__ == "__main__":
    main()
