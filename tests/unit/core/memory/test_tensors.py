"""Tensors expected of a config.json against those of real headers."""

from pathlib import Path

import pytest

from app.core.checkpoint import parse_architecture, read_checkpoint
from app.core.checkpoint_scheme import UNQUANTIZED, Scheme, SchemeName
from app.core.memory.shape import UnplannableError
from app.core.memory.tensors import expected_tensors
from tests.unit.core.memory.models import LLAMA_31_8B

BUNDLED = Path(__file__).parents[4] / "models" / "bundled"


@pytest.mark.parametrize("name", ["bf16", "w8a8"])
def test_what_config_json_promises_is_what_the_bundled_files_hold(name: str) -> None:
    checkpoint = read_checkpoint(BUNDLED / name)
    expected = expected_tensors(checkpoint.architecture, checkpoint.scheme)
    assert {(each.name, each.dtype, each.shape, each.num_bytes) for each in expected} == {
        (each.name, each.dtype, each.shape, each.num_bytes) for each in checkpoint.tensors
    }


@pytest.mark.parametrize(
    ("changed", "scheme"),
    [
        ({"model_type": "gpt_oss"}, UNQUANTIZED),
        ({"num_local_experts": 8}, UNQUANTIZED),
        ({"intermediate_size": None}, UNQUANTIZED),
        ({}, Scheme(SchemeName.OTHER, "gptq")),
    ],
)
def test_what_is_not_known_is_refused(changed: dict[str, object], scheme: Scheme) -> None:
    architecture = parse_architecture({**LLAMA_31_8B, **changed}, "test")
    with pytest.raises(UnplannableError):
        expected_tensors(architecture, scheme)
