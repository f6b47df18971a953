from pathlib import Path

import pytest
import yaml

from app.core.errors import SettingsError
from app.settings.layers import CONFIG, FIELDS, SHORT_NAMES
from app.settings.loading import EffectiveSettings, Sources, load_settings


def load(
    tmp_path: Path, config: str = "", dotenv: str = "", **sources: object
) -> EffectiveSettings:
    config_file = dotenv_file = None
    if config:
        config_file = tmp_path / "config.yaml"
        config_file.write_text(config)
    if dotenv:
        dotenv_file = tmp_path / ".env"
        dotenv_file.write_text(dotenv)
    environ: dict[str, str] = sources.get("environ", {})  # type: ignore[assignment]
    assignments: list[str] = sources.get("assignments", [])  # type: ignore[assignment]
    return load_settings(
        Sources(environ, assignments, config_file, dotenv_file), lambda: ("bundled", "because")
    )


def test_the_default_file_has_every_setting_with_a_comment_before_or_beside_it() -> None:
    lines = (CONFIG / "default.yaml").read_text().splitlines()
    tree = yaml.safe_load("\n".join(lines))
    named = {
        f"{section}.{key}" for section in tree if section != "profile" for key in tree[section]
    }
    assert named | {"profile"} == set(FIELDS)
    for number, line in enumerate(lines):
        if line.startswith("  ") and not line.strip().startswith("#"):
            above = lines[number - 1].strip()
            assert "#" in line or above.startswith("#") or ":" in above, line


def test_every_short_name_stands_beside_its_setting_in_the_default_file() -> None:
    text = (CONFIG / "default.yaml").read_text()
    for short, name in SHORT_NAMES.items():
        key = name.rpartition(".")[2]
        assert any(f"{key}:" in line and f"# {short}" in line for line in text.splitlines()), short


def test_a_later_layer_wins_and_each_value_knows_its_source(tmp_path: Path) -> None:
    chain: list[tuple[dict[str, object], int, str]] = [
        ({}, 8000, "default"),
        ({"config": "server: {port: 1}"}, 1, "config.yaml"),
        ({"dotenv": "PORT=2"}, 2, ".env"),
        ({"environ": {"PORT": "3"}}, 3, "environment"),
        ({"assignments": ["server.port=4"]}, 4, "command line"),
    ]
    given: dict[str, object] = {}
    for more, port, source in chain:
        given |= more
        effective = load(tmp_path, **given)  # type: ignore[arg-type]
        assert effective.settings.server.port == port
        assert effective.origins["server.port"] == source


def test_a_profile_stands_between_the_defaults_and_everything_else(tmp_path: Path) -> None:
    effective = load(tmp_path)
    assert effective.settings.profile == "bundled"
    assert effective.note == "because"
    assert effective.settings.engine.max_model_len == 4096
    assert effective.origins["engine.max_model_len"] == "profile bundled"
    named = load(tmp_path, environ={"MAX_MODEL_LEN": "100", "GATEWAY_PROFILE": "none"})
    assert named.settings.engine.max_model_len == 100
    assert named.origins["model.path"] == "default"


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_every_setting_can_be_set_by_environment_and_command_line(
    tmp_path: Path, name: str
) -> None:
    if name == "profile":
        return
    section, _, key = name.partition(".")
    default = getattr(getattr(load(tmp_path).settings, section), key)
    special = {
        "server.tls_certificate": "null",
        "server.tls_key": "null",
        "server.hung_after_s": "5",
        "server.ready_when_saturated": "false",
        "model.scheme": "fp8",
        "engine.dtype": "float16",
        "limits.unknown_fields": "ignore",
        "limits.redis_lease_s": "10",
        "limits.redis_timeout_s": "0.2",
        "limits.when_redis_fails": "fail_open",
        "server.fast_path": "off",
        "tracing.otlp_endpoint": "http://collector:4317",
        "log.level": "error",
        "log.format": "text",
    }
    kind = str(FIELDS[name].annotation)
    text = special.get(name) or (
        "true"
        if "bool" in kind
        else "0.5"
        if "float" in kind
        else "1500"
        if "int" in kind
        else "some"
    )
    variable = f"GATEWAY_{name.upper().replace('.', '_')}"
    by_environment = load(tmp_path, environ={variable: text})
    by_option = load(tmp_path, assignments=[f"{name}={text}"])
    for effective in (by_environment, by_option):
        value = getattr(getattr(effective.settings, section), key)
        assert text == "null" or value != default or default is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"config": "server: {prot: 1}"}, "server.prot"),
        ({"config": "sevrer: {port: 1}"}, "sevrer"),
        ({"config": "server: 5"}, "server"),
        ({"config": "- 1"}, "sections"),
        ({"config": "server: {port: ["}, "YAML"),
        ({"config": "server: {port: '8000'}"}, "server.port"),
        ({"config": "server: {port: true}"}, "server.port"),
        ({"config": "server: {port: 70000}"}, "server.port"),
        ({"config": "model: {path: ''}"}, "model.path"),
        ({"dotenv": "GATEWAY_SERVER_PROT=1"}, "GATEWAY_SERVER_PROT"),
        ({"environ": {"PORT": "x"}}, "server.port"),
        ({"environ": {"GATEWAY_LOG_LEVEL": "loud"}}, "log.level"),
        ({"assignments": ["server.port"]}, "section.key=value"),
        ({"assignments": ["server.port=-1"]}, "server.port"),
        ({"assignments": ["profile=nobody"]}, "'nobody'"),
        ({"assignments": ["server.tls_key=/x"]}, "server.tls_certificate"),
        ({"assignments": ["tracing.otlp_endpoint=collector:4317"]}, "tracing.otlp_endpoint"),
        ({"assignments": ["server.management_port=8000"]}, "server.management_port"),
        ({"assignments": ["engine.max_num_seqs=4096"]}, "engine.max_num_batched_tokens"),
        ({"assignments": ["engine.max_model_len=1"]}, "engine.max_model_len"),
        ({"assignments": ["limits.redis_lease_s=2"]}, "limits.redis_lease_s"),
        ({"assignments": ["limits.redis_prefix={a}"]}, "limits.redis_prefix"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_key(
    tmp_path: Path, given: dict[str, object], said: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        load(tmp_path, **given)  # type: ignore[arg-type]
    assert said in refused.value.sentence
    assert "\n" not in refused.value.sentence


def test_a_mistake_shows_even_where_a_later_layer_wins(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="environment"):
        load(tmp_path, environ={"PORT": "x"}, assignments=["server.port=1"])


def test_the_full_name_wins_over_the_short_one_in_whatever_order(tmp_path: Path) -> None:
    pairs = [("PORT", "1"), ("GATEWAY_SERVER_PORT", "2")]
    for order in (pairs, pairs[::-1]):
        assert load(tmp_path, environ=dict(order)).settings.server.port == 2


def test_a_model_of_ones_own_gets_no_other_models_profile(tmp_path: Path) -> None:
    effective = load(tmp_path, environ={"MODEL_DIR": "models/mine"})
    assert effective.settings.profile == "none"
    assert effective.settings.model.name == "mine"
    assert effective.origins["engine.max_model_len"] == "default"


def test_a_slip_in_a_file_is_told_by_its_place_and_never_quoted(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="line 2") as refused:
        load(tmp_path, config="model:\n  hf_token: hf_secret: x")
    assert "hf_secret" not in refused.value.sentence


def test_secrets_are_hidden_wherever_settings_are_shown(tmp_path: Path) -> None:
    effective = load(tmp_path, environ={"HF_TOKEN": "hf_secret"})
    assert "hf_secret" not in "\n".join(effective.lines())
    assert "hf_secret" not in repr(effective)
    token = effective.settings.model.hf_token
    assert token is not None
    assert token.get_secret_value() == "hf_secret"


def test_a_wrong_secret_is_not_quoted(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"limits\.redis_url") as refused:
        load(tmp_path, config="limits: {redis_url: [redis://user:password@host]}")
    assert "password" not in refused.value.sentence


def test_what_is_printed_can_be_used_as_a_config_file(tmp_path: Path) -> None:
    first = load(tmp_path, environ={"MAX_NUM_SEQS": "7"})
    again = load(tmp_path, config="\n".join(first.lines()))
    assert again.settings == first.settings


def test_empty_short_names_and_kubernetes_service_links_are_no_settings(tmp_path: Path) -> None:
    links = {"GATEWAY_PORT": "tcp://10.0.0.1:8000", "GATEWAY_SERVICE_HOST": "10.0.0.1"}
    links |= {"GATEWAY_PORT_8000_TCP_ADDR": "10.0.0.1", "HOST": "", "HF_TOKEN": ""}
    assert load(tmp_path, environ=links).settings == load(tmp_path).settings
