"""Runs in `.venv-deploy`: what the schemas of custom resources say of objects.

stdin: a list of objects. stdout: for each, a list of sentences. KEDA's and the Prometheus
operator's schemas are cloudcoil's models, made from their CRDs; the others are custom_shapes.yaml.
"""

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import yaml
from pydantic import ValidationError

MODELS = {
    "keda.sh/v1alpha1": "cloudcoil.models.keda.v1alpha1",
    "monitoring.coreos.com/v1": "cloudcoil.models.prometheus_operator.v1",
}
SHAPES = yaml.safe_load(Path(__file__).with_name("custom_shapes.yaml").read_text())


def main() -> None:
    json.dump([list(problems_of(item)) for item in json.load(sys.stdin)], sys.stdout)


def problems_of(item: dict[str, Any]) -> Iterator[str]:
    if shape := SHAPES.get(f"{item['apiVersion']} {item['kind']}"):
        for error in jsonschema.Draft202012Validator(shape).iter_errors(item["spec"]):
            yield f"spec.{'.'.join(map(str, error.absolute_path))}: {error.message[:300]}"
    else:
        yield from problems_of_model(item)


def problems_of_model(item: dict[str, Any]) -> Iterator[str]:
    """The models leave unknown fields out, so one that does not come back is unknown."""
    model = getattr(import_module(MODELS[item["apiVersion"]]), item["kind"])
    try:
        read = model.model_validate(item).model_dump(by_alias=True, exclude_unset=True, mode="json")
    except ValidationError as error:
        for each in error.errors(include_url=False):
            yield f"{'.'.join(map(str, each['loc']))}: {each['msg']}"
    else:
        yield from missing(item, read)


def missing(wanted: Any, found: Any, path: str = "") -> Iterator[str]:
    """Where `found` lacks something that `wanted` has."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key, value in wanted.items():
            where = f"{path}.{key}".lstrip(".")
            if key in found:
                yield from missing(value, found[key], where)
            else:
                yield f"{where}: no such field"
    elif isinstance(wanted, list) and isinstance(found, list):
        for number, (one, other) in enumerate(zip(wanted, found, strict=True)):
            yield from missing(one, other, f"{path}.{number}")


if __name__ == "__main__":
    main()
