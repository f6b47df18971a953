"""One quantization as it was asked for, checked."""

from dataclasses import dataclass
from pathlib import Path

from app.core.errors import AppError
from app.quantize.recipes import Recipe


@dataclass(frozen=True, slots=True)
class Calibration:
    """`source` is a local .jsonl or .parquet file, or a Hugging Face data set as NAME[:SPLIT]."""

    source: str
    num_samples: int
    max_seq_length: int

    @property
    def local_path(self) -> Path | None:
        path = Path(self.source)
        return path if path.suffix in (".jsonl", ".parquet") else None


@dataclass(frozen=True, slots=True)
class Job:
    model: str  # a local directory or a repository's name
    revision: str | None
    out: Path
    recipe: Recipe
    smoothing_strength: float | None  # None: the recipe's own
    calibration: Calibration | None  # None where the recipe needs none
    seed: int
    device: str  # "auto", "cpu", "cuda" or "cuda:N"
    offload: bool

    @property
    def is_local(self) -> bool:
        return Path(self.model).is_dir()

    def check(self) -> None:
        """Raises AppError for what can be told from the options alone."""
        if self.out.exists():
            raise AppError(f"{self.out} is there already: remove it or choose another --out.")
        if self.smoothing_strength is not None:
            if self.recipe.smoothing_strength is None:
                raise AppError(f"{self.recipe.name} has no SmoothQuant, so no strength to set.")
            if not 0 <= self.smoothing_strength <= 1:
                raise AppError(
                    f"The strength of SmoothQuant is between 0 and 1, not "
                    f"{self.smoothing_strength}."
                )
        if self.calibration is None:
            return
        path = self.calibration.local_path
        if path is not None and not path.is_file():
            raise AppError(f"There is no calibration file {path}.")
        if self.calibration.num_samples < 1 or self.calibration.max_seq_length < 1:
            raise AppError("--samples and --max-seq-length must be at least 1.")
