# ruff: noqa: T201 (a command, run by hand)
"""Write what the chart's `config` may hold into values.schema.json: the application's settings.

    python -m deploy.helm.config_schema           rewrite the schema
    python -m deploy.helm.config_schema --check   exit 1 when it is stale

A setting that the chart makes itself is refused there, so that two values cannot contradict.
"""

import json
import sys
from pathlib import Path
from typing import Any

from app.settings.model import Settings

SCHEMA = Path(__file__).parent / "w8a8-gateway" / "values.schema.json"
CHARTS_OWN = {
    "server": {
        "host",
        "port",
        "management_host",
        "management_port",
        "drain_timeout_s",
        "tls_certificate",
        "tls_key",
    },
    "model": {"hf_token"},
    "engine": {"tensor_parallel_size"},
    "auth": {"keys_file"},
    "limits": {"redis_url"},
    "usage": {"directory"},
}


def main(arguments: list[str]) -> int:
    old = SCHEMA.read_text()
    schema = json.loads(old)
    schema["properties"]["config"] = config_schema()
    new = json.dumps(schema, indent=2) + "\n"
    if arguments == ["--check"]:
        return int(new != old)
    SCHEMA.write_text(new)
    print(f"wrote {SCHEMA.name}")
    return 0


def config_schema() -> dict[str, Any]:
    """Every section with its settings, none of them required."""
    whole = Settings.model_json_schema()
    sections: dict[str, Any] = {}
    for name, reference in whole["properties"].items():
        if "$ref" in reference:  # `profile`, which is none, is a value of the chart's own
            rules = whole["$defs"][reference["$ref"].rpartition("/")[2]]["properties"]
            sections[name] = section_schema(rules, CHARTS_OWN.get(name, set()))
    return closed(sections)


def section_schema(rules: dict[str, Any], charts_own: set[str]) -> dict[str, Any]:
    unknown = charts_own - set(rules)
    assert not unknown, f"no such setting: {unknown}"  # noqa: S101 (a command, run by hand)
    return closed({key: key not in charts_own and plain(rule) for key, rule in rules.items()})


def plain(rule: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in rule.items() if key != "title"}


def closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
