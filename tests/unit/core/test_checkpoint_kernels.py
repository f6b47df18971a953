from dataclasses import replace

import pytest

from app.core.checkpoint_kernels import judge
from app.core.checkpoint_scheme import UNQUANTIZED, Quantized, Scheme, SchemeName

INT8 = Scheme(
    SchemeName.W8A8_INT8,
    weights=Quantized(8, "int", "channel", symmetric=True, dynamic=False),
    activations=Quantized(8, "int", "token", symmetric=True, dynamic=True),
)
FP8 = Scheme(SchemeName.FP8, weights=Quantized(8, "float", "channel", True, False))


def kernels(scheme: Scheme) -> dict[str, str | None]:
    return {verdict.platform: verdict.kernel for verdict in judge(scheme)}


def test_int8_runs_on_cutlass_from_turing_to_hopper_and_nowhere_after() -> None:
    cutlass = "CutlassInt8ScaledMMLinearKernel"
    assert kernels(INT8) == {
        "CPU": "CPUInt8ScaledMMLinearKernel",
        "Volta": None,
        "Turing": cutlass,
        "Ampere": cutlass,
        "Ada": cutlass,
        "Hopper": cutlass,
        "Blackwell": None,
    }


def test_blackwell_is_told_to_use_fp8() -> None:
    blackwell = next(verdict for verdict in judge(INT8) if verdict.platform == "Blackwell")
    assert "FP8" in blackwell.note
    assert kernels(FP8)["Blackwell"]


def test_fp8_computes_in_eight_bits_from_ada_only() -> None:
    notes = {verdict.platform: verdict.note for verdict in judge(FP8)}
    assert "weights only" in notes["Ampere"]
    assert notes["Ada"] == notes["Hopper"] == ""


@pytest.mark.parametrize("scheme", [INT8, FP8, UNQUANTIZED])
def test_turing_has_no_bfloat16(scheme: Scheme) -> None:
    turing = next(verdict for verdict in judge(scheme) if verdict.platform == "Turing")
    assert "float16" in turing.note


def test_asymmetric_weights_and_unknown_schemes_run_nowhere() -> None:
    asymmetric = replace(INT8, weights=Quantized(8, "int", "channel", False, False))
    for scheme in (asymmetric, Scheme(SchemeName.OTHER, "gptq")):
        assert set(kernels(scheme).values()) == {None}
