"""The recipes: what each does to a model, and where its numbers come from."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from app.core.checkpoint_scheme import SchemeName

# In every recipe: the output layer decides between tokens, and its error is not averaged away.
# A mixture of experts also keeps its routers (named "...gate"; a dense model has none).
IGNORED = ("lm_head", "re:.*[.]gate$")

# llm-compressor's presets. W8A8: int8 weights, symmetric, one scale for each output channel; int8
# activations, symmetric, one scale for each token, computed while serving. FP8_DYNAMIC: the same
# with E4M3 floats.
W8A8 = "W8A8"
FP8_DYNAMIC = "FP8_DYNAMIC"


@dataclass(frozen=True, slots=True)
class Recipe:
    name: str
    preset: str
    yields: SchemeName
    summary: str
    source: str
    smoothing_strength: float | None = None  # SmoothQuant's alpha; None: no SmoothQuant
    gptq_dampening: float | None = None  # share of the Hessian's mean diagonal; None: rounding

    @property
    def needs_calibration(self) -> bool:
        return self.smoothing_strength is not None or self.gptq_dampening is not None

    def modifiers(self, smoothing_strength: float | None = None) -> dict[str, dict[str, Any]]:
        """llm-compressor's modifiers by class name, with their arguments, in order."""
        steps: dict[str, dict[str, Any]] = {}
        if self.smoothing_strength is not None:
            alpha = self.smoothing_strength if smoothing_strength is None else smoothing_strength
            steps["SmoothQuantModifier"] = {"smoothing_strength": alpha}
        scheme = {"targets": ["Linear"], "scheme": self.preset, "ignore": list(IGNORED)}
        if self.gptq_dampening is not None:
            steps["GPTQModifier"] = {**scheme, "dampening_frac": self.gptq_dampening}
        else:
            steps["QuantizationModifier"] = scheme
        return steps


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        recipe.name: recipe
        for recipe in (
            Recipe(
                "smoothquant-gptq-int8",
                W8A8,
                SchemeName.W8A8_INT8,
                "SmoothQuant, then GPTQ; int8 weights and activations",
                "strength 0.8, 512 samples of 2048 tokens: llm-compressor, "
                "examples/quantization_w8a8_int8; SmoothQuant: arXiv 2211.10438; "
                "GPTQ and its 1 % dampening: arXiv 2210.17323",
                smoothing_strength=0.8,
                gptq_dampening=0.01,
            ),
            Recipe(
                "gptq-int8",
                W8A8,
                SchemeName.W8A8_INT8,
                "GPTQ without SmoothQuant; int8 weights and activations",
                "arXiv 2411.02355 finds W8A8-INT within 1 to 3 % of 16 bit over the Llama-3.1 "
                "family; GPTQ and its 1 % dampening: arXiv 2210.17323",
                gptq_dampening=0.01,
            ),
            Recipe(
                "dynamic-int8",
                W8A8,
                SchemeName.W8A8_INT8,
                "round to nearest (MinMax); int8 weights and activations; no calibration",
                "model card of Llama-3.1-8B-Instruct-INT8-W8A8-Dynamic-Per-Token",
            ),
            Recipe(
                "fp8-dynamic",
                FP8_DYNAMIC,
                SchemeName.FP8,
                "round to nearest; E4M3 weights and activations; no calibration; for Ada, Hopper "
                "and Blackwell",
                "llm-compressor, examples/quantization_w8a8_fp8; near lossless over the Llama-3.1 "
                "family: arXiv 2411.02355",
            ),
        )
    }
)
