# ruff: noqa: T201 (a command, run by hand)
"""Write what `config` and `keys` may hold into values.schema.json, as the application has it.

    python -m deploy.helm.config_schema           rewrite the schema
    python -m deploy.helm.config_schema --check   exit 1 when it is stale

A setting that the chart makes itself is refused there, so that two values cannot contradict.
"""

import json
import sys
from pathlib import Path
from typing import Any

from app.core.fair_queue import Priority
from app.core.key_limits import LIMIT_NAMES
from app.core.routes import Scope
from app.settings.key_file import FIELDS
from app.settings.model import Settings

SCHEMA = Path(__file__).parent / "w8a8-gateway" / "values.schema.json"
CHARTS_OWN = {
    "server": {
        "host",
        "port",
        "management_host",
        "management_port",
        "drain_delay_s",
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
POSITIVE = {"type": "integer", "minimum": 1}
KEY_RULES: dict[str, Any] = {
    "name": {"$ref": "#/$defs/keyName"},
    "sha256": {"$ref": "#/$defs/digest"},
    "scopes": {
        "type": "array",
        "items": {"enum": [str(scope) for scope in Scope]},
        "uniqueItems": True,
        "minItems": 1,
    },
    "tenant": {"$ref": "#/$defs/keyName"},
    "models": {"type": "array", "items": {"type": "string", "minLength": 1}},
    "expires": {"$ref": "#/$defs/time"},
    "retired": {"type": "array", "items": {"$ref": "#/$defs/retired"}},
    "limits": {"$ref": "#/$defs/limits"},
    "priority": {"enum": [str(priority) for priority in Priority]},
    "timeout_ms": POSITIVE,
}


def main(arguments: list[str]) -> int:
    old = SCHEMA.read_text()
    schema = json.loads(old)
    schema["properties"]["config"] = config_schema()
    schema["$defs"]["limits"] = closed(dict.fromkeys(LIMIT_NAMES, POSITIVE))
    entry = schema["properties"]["keys"]["properties"]["entries"]["items"]
    entry["properties"] = {name: KEY_RULES[name] for name in sorted(FIELDS)}
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
