"""From the layers to the effective settings, and where each of them came from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from app.core.errors import SettingsError
from app.settings.layers import (
    CONFIG,
    Layer,
    check_value,
    from_assignments,
    from_variables,
    read_dotenv,
    read_file,
)
from app.settings.model import Settings


@dataclass(frozen=True)
class Sources:
    """What the caller has: where to look. Nothing below reads the environment by itself."""

    environ: Mapping[str, str]
    assignments: Sequence[str] = ()
    config_file: Path | None = None
    dotenv_file: Path | None = None


@dataclass(frozen=True)
class EffectiveSettings:
    """`origins` has the source of each setting; `note` says why `auto` chose its profile."""

    settings: Settings
    origins: Mapping[str, str]
    note: str = ""

    def lines(self) -> list[str]:
        """As YAML, each setting with its source beside it, secrets hidden."""
        out: list[str] = []
        for name, value in self.settings:
            if name == "profile":
                out.append(f"profile: {value}  # {self.origins[name]}")
                continue
            out.append(f"{name}:")
            for key, inner in value:
                out.append(f"  {key}: {show(inner)}  # {self.origins[f'{name}.{key}']}")
        return out


def show(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, SecretStr):
        return '"(hidden)"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"' if not value or value != value.strip() else value
    return str(value)


# What `auto` means on this machine: the profile's name, and a sentence if that needs a reason.
ProfileChooser = Callable[[], tuple[str, str]]


def load_settings(sources: Sources, choose_profile: ProfileChooser) -> EffectiveSettings:
    """The effective settings. Raises SettingsError with one sentence that names the key."""
    outer = outer_layers(sources)
    default = read_file(CONFIG / "default.yaml", "default")
    naming = next(layer for layer in [*reversed(outer), default] if "profile" in layer.values)
    wanted = check_value("profile", naming.values["profile"], naming)
    note = ""
    if wanted == "auto":
        # A profile is made for its model: it would give another one its name, revision and limits.
        has_own_model = any("model.path" in layer.values for layer in outer)
        wanted, note = ("none", "") if has_own_model else choose_profile()
    layers = [default, *profile_layers(wanted), *outer]
    values, origins = merge(layers)
    if values["profile"] == "auto":
        values["profile"], origins["profile"] = wanted, f"auto, {naming.name}"
    settings = build(values)
    check_together(settings)
    return EffectiveSettings(settings, origins, note)


def outer_layers(sources: Sources) -> list[Layer]:
    layers: list[Layer] = []
    if sources.config_file:
        layers.append(read_file(sources.config_file, sources.config_file.name))
    if sources.dotenv_file:
        layers.append(read_dotenv(sources.dotenv_file))
    layers.append(from_variables("environment", sources.environ))
    layers.append(from_assignments(sources.assignments))
    return layers


def profile_layers(wanted: str) -> list[Layer]:
    if wanted == "none":
        return []
    path = (
        Path(wanted)
        if wanted.endswith((".yaml", ".yml"))
        else CONFIG / "profiles" / f"{wanted}.yaml"
    )
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in (CONFIG / "profiles").glob("*.yaml")))
        raise SettingsError(f"profile {wanted[:80]!r} is not there; there are {known}.")
    layer = read_file(path, f"profile {path.stem}")
    if "profile" in layer.values:
        raise SettingsError(f"profile ({layer.name}): a profile cannot name another.")
    return [layer]


def merge(layers: Sequence[Layer]) -> tuple[dict[str, Any], dict[str, str]]:
    """Every value checked, whichever wins, so that a mistake shows wherever it stands."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        for name, value in layer.values.items():
            values[name] = check_value(name, value, layer)
            origins[name] = layer.name
    return values, origins


def build(values: Mapping[str, Any]) -> Settings:
    tree: dict[str, Any] = {}
    for name, value in values.items():
        section, dot, key = name.partition(".")
        if dot:
            tree.setdefault(section, {})[key] = value
        else:
            tree[section] = value
    return Settings.model_validate(tree)


def check_together(settings: Settings) -> None:
    """What no single value shows."""
    server, engine = settings.server, settings.engine
    if (server.tls_certificate is None) != (server.tls_key is None):
        raise SettingsError(
            "server.tls_certificate and server.tls_key go together; set both or neither."
        )
    for name in ("tls_certificate", "tls_key"):
        path = getattr(server, name)
        if path is not None and not Path(path).is_file():
            raise SettingsError(f"server.{name}: there is no file {path}.")
    if server.port and server.management_port == server.port:
        raise SettingsError("server.management_port is server.port; give it another port.")
    if settings.limits.redis_lease_s < 6 * settings.limits.redis_timeout_s:
        raise SettingsError(
            "limits.redis_lease_s has to be at least six times limits.redis_timeout_s, so that a "
            "slow answer costs no running request its reservation."
        )
    batched, longest = engine.max_num_batched_tokens, engine.max_model_len
    if batched and engine.max_num_seqs and batched < engine.max_num_seqs:
        raise SettingsError(
            f"engine.max_num_batched_tokens is {batched}, less than engine.max_num_seqs "
            f"({engine.max_num_seqs}); each running sequence needs one token per step."
        )
    if longest is not None and longest < 2:
        raise SettingsError("engine.max_model_len is 1; a prompt and an answer need at least 2.")
