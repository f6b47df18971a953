import pytest

from app.core.errors import SettingsError
from app.engine.simulated_settings import SimulatedSettings, parse_json_settings, parse_settings


def test_a_step_costs_a_base_and_so_much_per_token() -> None:
    settings = SimulatedSettings(step_ms=5, token_us=100)
    assert settings.step_s(0) == pytest.approx(0.005)
    assert settings.step_s(20) == pytest.approx(0.007)


def test_settings_come_from_json() -> None:
    told = parse_json_settings('{"step_ms": 50, "answer_tokens": null, "text_file": "a.txt"}')
    assert told == SimulatedSettings(step_ms=50, answer_tokens=None, text_file="a.txt")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("step_ms", -1),
        ("step_ms", "6"),
        ("token_us", True),
        ("answer_tokens", 1.5),
        ("seed", None),
        ("failure_rate", 1.1),
        ("text_file", 3),
        ("pace", 1),
    ],
)
def test_a_bad_setting_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=name):
        parse_settings({name: value})


@pytest.mark.parametrize("text", ["{", "[]", "3"])
def test_what_is_not_a_json_object_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="SIMULATED_DEVICE"):
        parse_json_settings(text)
