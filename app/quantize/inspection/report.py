"""What `inspect` found, as one value."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from app.core.checkpoint import Checkpoint, Source, read_source
from app.core.checkpoint_kernels import Verdict, judge
from app.core.checkpoint_layers import Layer, is_ignored, list_layers
from app.core.checkpoint_problems import Problem, Severity, find_problems
from app.core.checkpoint_scheme import SchemeName
from app.core.errors import CheckpointError

SIXTEEN_BIT_BYTES = 2


@dataclass(frozen=True, slots=True)
class Report:
    checkpoint: Checkpoint
    layers: tuple[Layer, ...]
    verdicts: tuple[Verdict, ...]
    problems: tuple[Problem, ...]

    @property
    def is_sound(self) -> bool:
        return all(problem.severity is not Severity.ERROR for problem in self.problems)

    @property
    def ignored(self) -> list[str]:
        """The layers that the ignore list really leaves alone, not the patterns."""
        patterns = self.checkpoint.scheme.ignore
        return [layer.name for layer in self.layers if is_ignored(layer.name, patterns)]

    @property
    def bytes_by_kind(self) -> dict[str, int]:
        kinds: Counter[str] = Counter()
        of_weights = {layer.weight.name: self.kind_of(layer) for layer in self.layers}
        scales = {layer.scale.name for layer in self.layers if layer.scale}
        for tensor in self.checkpoint.tensors:
            kind = "scales" if tensor.name in scales else of_weights.get(tensor.name, "other")
            kinds[kind] += tensor.num_bytes
        return dict(kinds.most_common())

    def kind_of(self, layer: Layer) -> str:
        return "embedding" if layer.is_embedding else f"{layer.kind} weights"

    @property
    def compression(self) -> float | None:
        """How many times smaller than in 16 bit; None for packed formats, whose values we cannot
        count, and for a checkpoint without tensors."""
        if self.checkpoint.scheme.name is SchemeName.OTHER or not self.checkpoint.num_bytes:
            return None
        scales = {layer.scale.name for layer in self.layers if layer.scale}
        values = sum(t.num_values for t in self.checkpoint.tensors if t.name not in scales)
        return values * SIXTEEN_BIT_BYTES / self.checkpoint.num_bytes

    def as_json(self) -> dict[str, Any]:
        compression = self.compression
        return {
            "where": self.checkpoint.where,
            "sound": self.is_sound,
            "architecture": asdict(self.checkpoint.architecture),
            "scheme": asdict(self.checkpoint.scheme),
            "ignored_layers": self.ignored,
            "bytes": {"total": self.checkpoint.num_bytes, **self.bytes_by_kind},
            "compression_against_16_bit": compression and round(compression, 3),
            "kernels": [asdict(verdict) for verdict in self.verdicts],
            "problems": [asdict(problem) for problem in self.problems],
            "layers": [layer_as_json(layer) for layer in self.layers],
        }


def layer_as_json(layer: Layer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "kind": layer.kind,
        "dtype": layer.weight.dtype,
        "shape": layer.weight.shape,
        "scale_dtype": layer.scale.dtype if layer.scale else None,
        "scale_shape": layer.scale.shape if layer.scale else None,
        "shard": layer.weight.shard,
    }


def inspect(source: Source) -> Report:
    """Read a checkpoint and judge it. Raises CheckpointError only where config.json or the index
    cannot be read: whatever else is wrong becomes a problem of the report."""
    damage: list[CheckpointError] = []
    checkpoint = read_source(source, damage.append)
    damaged = [Problem(Severity.ERROR, error.sentence) for error in damage]
    # What a missing shard holds would be reported as missing a second time.
    problems = damaged or find_problems(checkpoint)
    return Report(
        checkpoint, tuple(list_layers(checkpoint)), tuple(judge(checkpoint.scheme)), tuple(problems)
    )
