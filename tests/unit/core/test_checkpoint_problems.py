import re
from pathlib import Path
from typing import Any

import pytest

from app.core.checkpoint import read_checkpoint
from app.core.checkpoint_layers import is_ignored, is_simple
from app.core.checkpoint_problems import Problem, Severity, find_problems
from tests.unit.core.checkpoint_files import W8A8, Tensors, model_tensors, write_checkpoint

Q_PROJ = "model.layers.1.self_attn.q_proj"


def problems(directory: Path, tensors: Tensors | None = None, **changes: Any) -> list[Problem]:
    return find_problems(read_checkpoint(write_checkpoint(directory, tensors, **changes)))


def quantization(**changes: Any) -> dict[str, Any]:
    return {"quantization_config": {**W8A8, **changes}}


def group(kind: str, **changes: Any) -> dict[str, Any]:
    whole = W8A8["config_groups"]["group_0"]
    changed = {**whole, kind: {**whole[kind], **changes}}
    return quantization(config_groups={"group_0": changed})


def test_a_sound_checkpoint_has_no_problems(tmp_path: Path) -> None:
    assert problems(tmp_path / "w8a8") == []
    plain = model_tensors(quantized=False)
    assert problems(tmp_path / "bf16", plain, quantization_config=None) == []


DAMAGES: dict[str, tuple[dict[str, Any], str]] = {
    "a missing scale": ({f"{Q_PROJ}.weight_scale": None}, f"has no scale: {Q_PROJ}"),
    "a scale of the wrong shape": (
        {f"{Q_PROJ}.weight_scale": ("BF16", (1, 64))},
        rf"wrong shape: {Q_PROJ} has \(1, 64\)",
    ),
    "a flat scale": ({f"{Q_PROJ}.weight_scale": ("BF16", (64,))}, "wrong shape"),
    "a scale in integers": ({f"{Q_PROJ}.weight_scale": ("I8", (64, 1))}, "floating-point"),
    "a quantized lm_head": (
        {"lm_head.weight": ("I8", (96, 64)), "lm_head.weight_scale": ("BF16", (96, 1))},
        "output layer is quantized",
    ),
    "a weight left in 16 bit": (
        {f"{Q_PROJ}.weight": ("BF16", (64, 64)), f"{Q_PROJ}.weight_scale": None},
        f"not on the ignore list: {Q_PROJ}",
    ),
    "a scale without its weight": (
        {f"{Q_PROJ}.weight": None},
        f"belongs to no quantized weight: {Q_PROJ}",
    ),
    "a zero point": ({f"{Q_PROJ}.weight_zero_point": ("I8", (64, 1))}, "zero point"),
    "no output layer": ({"lm_head.weight": None}, "no lm_head"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_and_named(tmp_path: Path, damage: str) -> None:
    changes, says = DAMAGES[damage]
    changed = {name: kind for name, kind in (model_tensors() | changes).items() if kind}
    found = problems(tmp_path, changed)
    assert [problem.severity for problem in found] == [Severity.ERROR]
    assert re.search(says, found[0].sentence)


def test_a_layer_that_is_missing_whole_is_named(tmp_path: Path) -> None:
    found = problems(tmp_path, num_hidden_layers=3)
    assert [problem.sentence for problem in found] == ["1 of 3 layers have no weights: 2."]


@pytest.mark.parametrize(
    ("config", "severity", "says"),
    [
        (group("weights", symmetric=False), Severity.ERROR, "weights are asymmetric"),
        (group("input_activations", symmetric=False), Severity.WARNING, "asymmetric"),
        (quantization(kv_cache_scheme={"num_bits": 8, "type": "int"}), Severity.ERROR, "KV cache"),
        (quantization(ignore=["lm_head", "re:(a+)+$"]), Severity.WARNING, "too complex"),
        (quantization(ignore=["lm_head", "re:.*q_proj$"]), Severity.ERROR, "ignore list says"),
        ({"quantization_config": None}, Severity.ERROR, "no quantization_config"),
    ],
)
def test_a_config_that_does_not_fit_is_found(
    tmp_path: Path, config: dict[str, Any], severity: Severity, says: str
) -> None:
    found = problems(tmp_path, **config)
    assert [problem.severity for problem in found] == [severity]
    assert says in found[0].sentence


@pytest.mark.parametrize(
    ("name", "pattern", "ignored"),
    [
        ("lm_head", "lm_head", True),
        ("model.lm_head", "lm_head", True),
        ("model.layers.0.mlp.gate", "re:.*[.]gate$", True),
        ("model.layers.0.mlp.gate_proj", "re:.*[.]gate$", False),
        ("xlm_head", "lm_head", False),
        ("anything", "re:(", False),
        ("aaaa", "re:(a+)+b", False),
    ],
)
def test_ignore_lists_match_as_compressed_tensors_does(
    name: str, pattern: str, ignored: bool
) -> None:
    assert is_ignored(name, (pattern,)) is ignored


@pytest.mark.parametrize("expression", ["(a+)+$", "(a|a)*", ".*.*.*.*.*x", "(ab){2,}", "a?" * 25])
def test_patterns_that_could_take_forever_are_not_tried(expression: str) -> None:
    assert not is_simple(expression)


def test_a_family_that_ties_by_itself_is_not_called_broken(tmp_path: Path) -> None:
    """Gemma's config.json leaves out what is its default, and its files have no lm_head."""
    tensors = model_tensors()
    del tensors["lm_head.weight"]
    found = problems(tmp_path, tensors, model_type="gemma2", tie_word_embeddings=None)
    assert [problem.severity for problem in found] == [Severity.WARNING]
    assert "no lm_head" in found[0].sentence


def test_layers_of_older_families_are_counted_too(tmp_path: Path) -> None:
    plain = model_tensors(quantized=False)
    older = {name.replace("model.layers.", "transformer.h."): kind for name, kind in plain.items()}
    assert problems(tmp_path, older, quantization_config=None) == []


def test_static_activations_are_worse_and_without_their_scales_wrong(tmp_path: Path) -> None:
    static = group("input_activations", dynamic=False, strategy="tensor")
    scales: Tensors = {
        f"{name.removesuffix('.weight')}.input_scale": ("F32", (1,))
        for name, (dtype, _) in model_tensors().items()
        if dtype == "I8"
    }
    whole = problems(tmp_path / "whole", model_tensors() | scales, **static)
    assert [problem.severity for problem in whole] == [Severity.WARNING]
    without = problems(tmp_path / "without", **static)
    assert [problem.severity for problem in without] == [Severity.WARNING, Severity.ERROR]
    assert "scale is missing" in without[1].sentence


def test_layers_that_no_target_names_may_stay_in_16_bit(tmp_path: Path) -> None:
    tensors = model_tensors()
    tensors[f"{Q_PROJ}.weight"] = ("BF16", (64, 64))
    del tensors[f"{Q_PROJ}.weight_scale"]
    whole = W8A8["config_groups"]["group_0"]
    named = quantization(config_groups={"group_0": {**whole, "targets": ["re:.*mlp.*"]}})
    assert problems(tmp_path / "named", tensors, **named) == []
    assert problems(tmp_path / "all", tensors)
