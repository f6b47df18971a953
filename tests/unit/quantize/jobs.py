"""Jobs for the tests of the quantization's parts."""

from pathlib import Path
from typing import Any

from app.quantize.job import Calibration, Job
from app.quantize.recipes import RECIPES


def make_job(out: Path, recipe: str = "gptq-int8", **changes: Any) -> Job:
    chosen = RECIPES[recipe]
    facts: dict[str, Any] = {
        "model": str(out.parent),
        "revision": None,
        "out": out,
        "recipe": chosen,
        "smoothing_strength": None,
        "calibration": Calibration("owner/set", 8, 64) if chosen.needs_calibration else None,
        "seed": 0,
        "device": "auto",
        "offload": False,
    }
    return Job(**(facts | changes))
