"""What is measured of the engine on a GPU, and in which order."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.bench.gpu.offline_engine import Case
from app.bench.gpu.random_checkpoint import KINDS
from app.core.errors import SettingsError

FP8_KV = "fp8-kv"
# What decides a purchase first: a run that is cut short keeps what it has.
ORDER = "int8,bf16,fp8,int8/fp8-kv,bf16/fp8-kv,fp8/fp8-kv"
SEQUENCES = "64,256,128,512,32,8,1"
PREFILL_LENGTHS = "4096,1024,16384"


@dataclass(frozen=True, slots=True)
class Mode:
    """The type of the linear layers, and whether keys and values are kept in FP8."""

    weights: str
    has_fp8_kv: bool = False

    @property
    def name(self) -> str:
        return f"{self.weights}/{FP8_KV}" if self.has_fp8_kv else self.weights

    @property
    def kv_cache_dtype(self) -> str:
        return "fp8" if self.has_fp8_kv else "auto"

    @property
    def kv_value_bytes(self) -> int:
        return 1 if self.has_fp8_kv else 2


def parse_modes(text: str) -> list[Mode]:
    return [parse_mode(name.strip()) for name in text.split(",")]


def parse_mode(name: str) -> Mode:
    weights, slash, cache = name.partition("/")
    if weights not in KINDS or (slash and cache != FP8_KV):
        raise SettingsError(
            f"--modes: {name[:40]!r} is none of {', '.join(KINDS)}, each with or without /{FP8_KV}."
        )
    return Mode(weights, bool(slash))


@dataclass(frozen=True, slots=True)
class Loads:
    """Decoding: so many sequences of these lengths. Prefill: prompts of each length, as many as
    make up `prefill_tokens`."""

    sequences: Sequence[int]
    prompt_tokens: int
    output_tokens: int
    prefill_lengths: Sequence[int]
    prefill_tokens: int
    repeat: int

    def cases(self) -> list[Case]:
        decode = [
            Case(num_seqs, self.prompt_tokens, self.output_tokens, self.repeat)
            for num_seqs in self.sequences
        ]
        prefill = [
            Case(max(1, self.prefill_tokens // length), length, 1, self.repeat)
            for length in self.prefill_lengths
        ]
        # The two decode loads that matter most, then prefill, then the rest.
        return [*decode[:2], *prefill, *decode[2:]]

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return max(self.prompt_tokens + self.output_tokens, *(n + 1 for n in self.prefill_lengths))
