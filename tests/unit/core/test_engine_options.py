from typing import Any

import pytest

from app.core.engine_options import OWNED, REFUSED, EngineOptions, split_extra
from app.core.errors import SettingsError

BASE: dict[str, Any] = {
    "model": "models/x",
    "revision": None,
    "served_name": "x",
    "gpu_memory_utilization": 0.9,
    "max_model_len": 4096,
    "max_num_batched_tokens": None,
    "max_num_seqs": None,
    "dtype": "auto",
    "kv_cache_dtype": "auto",
    "tensor_parallel_size": 1,
    "enforce_eager": False,
    "cpu_kv_cache_gib": 1,
    "tool_call_parser": None,
    "extra_args": "",
}


def test_settings_become_vllms_arguments_and_null_leaves_its_default() -> None:
    arguments = EngineOptions(**BASE).arguments()
    assert "--max-model-len=4096" in arguments
    assert not [each for each in arguments if each.startswith("--max-num-seqs")]
    assert "--enable-auto-tool-choice" not in arguments


def test_a_tool_parser_enables_automatic_choice() -> None:
    arguments = EngineOptions(**BASE | {"tool_call_parser": "llama3_json"}).arguments()
    assert "--enable-auto-tool-choice" in arguments


def test_extra_arguments_are_split_as_a_shell_does() -> None:
    assert split_extra("--seed 7 --limit-mm-per-prompt '{\"image\": 0}'") == [
        "--seed",
        "7",
        "--limit-mm-per-prompt",
        '{"image": 0}',
    ]


@pytest.mark.parametrize("name", [*OWNED, *REFUSED])
@pytest.mark.parametrize("form", ["--{0} 1", "--{0}=1", "--no-{0}", "--{0}.key=1"])
def test_an_argument_of_ours_is_refused_in_every_spelling(name: str, form: str) -> None:
    for spelling in (name, name.replace("-", "_")):
        with pytest.raises(SettingsError, match=r"engine\.extra_args \(EXTRA_ARGS\)"):
            split_extra(f"--seed 1 {form.format(spelling)}")


def test_the_short_form_of_an_owned_argument_is_refused() -> None:
    for words in ("-tp 2", "-tp=2"):
        with pytest.raises(SettingsError, match=r"engine\.tensor_parallel_size"):
            split_extra(words)


def test_an_open_quote_is_a_clear_error() -> None:
    with pytest.raises(SettingsError, match="EXTRA_ARGS"):
        split_extra("--seed '7")
