"""What the simulated device costs and how it misbehaves."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.core.errors import SettingsError

VARIABLE = "SIMULATED_DEVICE"
"""Environment variable: a JSON object of the settings below."""


@dataclass(frozen=True)
class SimulatedSettings:
    """A step costs `step_ms` plus `token_us` for each token that it computes, prompt or output.
    The defaults are about those of an 8B model on a Hopper GPU.

    `answer_tokens`: an answer ends by itself after so many; None: it runs to `max_tokens`.
    `failure_rate`: share of steps that raise, which ends the engine as a fault of a device does.
    `stall_rate`: share of steps that take `stall_ms` longer.
    `text_file`: its text is what answers are cut from, instead of the built-in one.
    """

    step_ms: float = 6.0
    token_us: float = 30.0
    answer_tokens: int | None = 256
    kv_cache_gib: float = 16.0
    failure_rate: float = 0.0
    stall_rate: float = 0.0
    stall_ms: float = 0.0
    seed: int = 0
    text_file: str | None = None

    def step_s(self, num_tokens: int) -> float:
        return self.step_ms / 1e3 + num_tokens * self.token_us / 1e6


FIELDS = {field.name: field for field in dataclasses.fields(SimulatedSettings)}


def parse_settings(values: Mapping[str, Any]) -> SimulatedSettings:
    for name, value in values.items():
        check_setting(name, value)
    return SimulatedSettings(**values)


def parse_json_settings(text: str) -> SimulatedSettings:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise SettingsError(f"{VARIABLE} is not JSON: {error}.") from error
    if not isinstance(values, dict):
        raise SettingsError(f"{VARIABLE} has to be a JSON object.")
    return parse_settings(values)


def check_setting(name: str, value: object) -> None:
    if name not in FIELDS:
        raise SettingsError(f"The simulated device has no setting {name!r}.")
    if name == "text_file":
        if value is not None and not isinstance(value, str):
            raise SettingsError("text_file of the simulated device has to be a path.")
    elif name == "answer_tokens" and value is None:
        return
    elif not is_number(value, whole=name in ("answer_tokens", "seed")) or value < 0:  # type: ignore[operator]
        raise SettingsError(f"{name} of the simulated device cannot be {value!r}.")
    elif name.endswith("_rate") and value > 1:  # type: ignore[operator]
        raise SettingsError(f"{name} of the simulated device is a share from 0 to 1.")


def is_number(value: object, *, whole: bool) -> bool:
    kinds = (int,) if whole else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool)
