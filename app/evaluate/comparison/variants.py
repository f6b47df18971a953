"""The quantizations that docs/quantization.md compares, and what they are calibrated on."""

import json
import random
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from app.bundled.curriculum import training_questions
from app.bundled.skills import SKILLS
from app.evaluate.questions import conversations

IN_DOMAIN = "training questions"
RANDOM = "random text"
NUM_SAMPLES = 128
SEED = 0


@dataclass(frozen=True, slots=True)
class Variant:
    recipe: str
    calibration: str | None = None
    smoothing_strength: float | None = None

    @property
    def slug(self) -> str:
        parts = (self.recipe, self.calibration, self.smoothing_strength)
        return "-".join(str(part).replace(" ", "-") for part in parts if part is not None)

    def options(self, calibrations: Mapping[str, Path]) -> list[str]:
        """Of `python -m app quantize`, besides the model and the output."""
        options = ["--recipe", self.recipe, "--device", "cpu", "--seed", str(SEED)]
        if self.calibration is not None:
            options += ["--calibration", str(calibrations[self.calibration])]
            options += ["--samples", str(NUM_SAMPLES), "--max-seq-length", "512"]
        if self.smoothing_strength is not None:
            options += ["--smoothing-strength", str(self.smoothing_strength)]
        return options


VARIANTS = (
    Variant("smoothquant-gptq-int8", IN_DOMAIN, 0.8),
    Variant("smoothquant-gptq-int8", IN_DOMAIN, 0.5),
    Variant("smoothquant-gptq-int8", RANDOM, 0.8),
    Variant("gptq-int8", IN_DOMAIN),
    Variant("gptq-int8", RANDOM),
    Variant("dynamic-int8"),
    Variant("fp8-dynamic"),
)


def write_calibrations(directory: Path) -> dict[str, Path]:
    rows = {IN_DOMAIN: in_domain_rows(), RANDOM: random_rows()}
    paths = {}
    for name, samples in rows.items():
        paths[name] = directory / f"{name.replace(' ', '-')}.jsonl"
        paths[name].write_text("".join(json.dumps(row) + "\n" for row in samples))
    return paths


def in_domain_rows() -> list[dict[str, Any]]:
    """Conversations of every skill; none of them is held out."""
    shares = [len(range(number, NUM_SAMPLES, len(SKILLS))) for number in range(len(SKILLS))]
    return conversations(
        [
            question
            for skill, share in zip(SKILLS, shares, strict=True)
            for question in islice(training_questions(skill, SEED), share)
        ]
    )


def random_rows() -> Iterator[dict[str, Any]]:
    """Words of random characters, about as long as the conversations."""
    rng = random.Random(SEED)  # noqa: S311 (text, not a secret)
    for _ in range(NUM_SAMPLES):
        words = (
            "".join(rng.choices(string.printable[:94], k=rng.randint(1, 9))) for _ in range(40)
        )
        yield {"text": " ".join(words)}
