"""Runs in `.venv-deploy`: what Kubernetes' own schemas say of objects, unknown fields included.

stdin: {"versions": [...], "objects": {name: [...]}}. stdout: a list of sentences for each name.
"""

import json
import sys
from typing import Any

import kubernetes_validate  # type: ignore[import-not-found]


def main() -> None:
    request = json.load(sys.stdin)
    found = {
        name: [
            f"{version} {name_of(item)}: {problem}"
            for version in request["versions"]
            for item in objects
            if (problem := problem_of(item, version))
        ]
        for name, objects in request["objects"].items()
    }
    json.dump(found, sys.stdout)


def problem_of(item: dict[str, Any], version: str) -> str:
    try:
        kubernetes_validate.validate(item, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{'.'.join(map(str, error.path))}: {error.message[:300]}"
    except kubernetes_validate.SchemaNotFoundError:
        return "this version has no such kind"
    return ""


def name_of(item: dict[str, Any]) -> str:
    return f"{item.get('kind')} {item.get('metadata', {}).get('name')}"


if __name__ == "__main__":
    main()
