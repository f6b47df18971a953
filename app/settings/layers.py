"""The layers that settings come from, each a flat table of `section.key`, checked key by key."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from dotenv import dotenv_values
from pydantic import SecretStr, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from app.core.errors import SettingsError
from app.settings.model import Section, Settings

CONFIG = Path(__file__).parents[2] / "config"

# The names that people know from vLLM's scripts.
SHORT_NAMES = {
    "MODEL_DIR": "model.path",
    "SERVED_MODEL_NAME": "model.served_name",
    "HF_TOKEN": "model.hf_token",
    "HOST": "server.host",
    "PORT": "server.port",
    "GPU_MEM_UTIL": "engine.gpu_memory_utilization",
    "MAX_MODEL_LEN": "engine.max_model_len",
    "MAX_BATCHED_TOKENS": "engine.max_num_batched_tokens",
    "MAX_NUM_SEQS": "engine.max_num_seqs",
    "EXTRA_ARGS": "engine.extra_args",
}
PREFIX = "GATEWAY_"
# Kubernetes gives every pod such variables for a Service named gateway.
_SERVICE_LINK = re.compile(r"GATEWAY_(?:SERVICE_(?:HOST|PORT)|PORT)(?:_.*)?")


@dataclass(frozen=True)
class Layer:
    """One source of settings. `is_text`: its values are strings that still have to be read."""

    name: str
    values: Mapping[str, Any]
    is_text: bool = False


def known_fields() -> dict[str, FieldInfo]:
    """Every setting by its dotted name."""
    fields: dict[str, FieldInfo] = {}
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            fields |= {f"{name}.{key}": inner for key, inner in section.model_fields.items()}
        else:
            fields[name] = field
    return fields


FIELDS = known_fields()
_BY_VARIABLE = {PREFIX + name.upper().replace(".", "_"): name for name in FIELDS} | SHORT_NAMES


def read_file(path: Path, label: str) -> Layer:
    """The layer of a YAML file that holds any part of the settings."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{label}: there is no file {path}.") from None
    except (OSError, UnicodeError) as error:
        raise SettingsError(f"{label}: {path} cannot be read ({error}).") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)  # its text would quote the line, and a secret
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else type(error).__name__
        raise SettingsError(f"{label}: {path} is not valid YAML ({where}).") from None
    if not isinstance(tree, dict | None):
        raise SettingsError(f"{label}: {path} has to hold sections with settings.")
    return Layer(label, dict(flatten(tree or {}, label)))


def flatten(tree: Mapping[Any, Any], label: str) -> Iterable[tuple[str, Any]]:
    sections = {name.partition(".")[0] for name in FIELDS if "." in name}
    for name, value in tree.items():
        if name in sections:
            if not isinstance(value, dict):
                raise SettingsError(f"{name} ({label}) has to be a section with settings in it.")
            yield from ((f"{name}.{key}", inner) for key, inner in value.items())
        else:
            yield str(name), value


def read_dotenv(path: Path) -> Layer:
    values = dotenv_values(path, interpolate=False) if path.is_file() else {}
    return from_variables(f"{path.name}", {k: v for k, v in values.items() if v is not None})


def from_variables(label: str, variables: Mapping[str, str]) -> Layer:
    """The settings among environment variables. An unknown GATEWAY_ name is refused."""
    found: dict[str, str] = {}
    # Short names first: where both are set, the full name wins, in whatever order they stand.
    for variable, value in sorted(variables.items(), key=lambda pair: pair[0] not in SHORT_NAMES):
        if name := _BY_VARIABLE.get(variable):
            if variable in SHORT_NAMES and not value and name != "engine.extra_args":
                continue  # an empty HOST= or HF_TOKEN= means: not set
            found[name] = value
        elif variable.startswith(PREFIX) and not _SERVICE_LINK.fullmatch(variable):
            raise SettingsError(f"{variable} ({label}) is not a setting; see config/default.yaml.")
    return Layer(label, found, is_text=True)


def from_assignments(assignments: Iterable[str]) -> Layer:
    """The layer of `--set section.key=value` options."""
    found: dict[str, str] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise SettingsError(f"--set {assignment!r}: write it as section.key=value.")
        found[name.strip()] = value
    return Layer("command line", found, is_text=True)


def check_value(name: str, value: Any, layer: Layer) -> Any:
    """`value` as the setting's type. Raises SettingsError that names the key and the source."""
    field = FIELDS.get(name)
    if field is None:
        raise SettingsError(
            f"{str(name)[:80]} ({layer.name}) is not a setting; see config/default.yaml."
        )
    annotation: Any = field.annotation
    if field.metadata:
        annotation = Annotated[annotation, *field.metadata]
    adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    try:
        if not layer.is_text:
            return adapter.validate_python(value, strict=True)
        if value in ("null", "") and type(None) in getattr(field.annotation, "__args__", ()):
            return None
        return adapter.validate_strings(value)
    except ValidationError as error:
        reason = error.errors(include_url=False, include_input=False)[0]["msg"].lower()
        is_secret = SecretStr in getattr(field.annotation, "__args__", ())
        shown = "" if is_secret else f" is {str(value)[:80]!r}"
        raise SettingsError(f"{name} ({layer.name}){shown}: {reason}.") from None
