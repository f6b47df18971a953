"""The least time that a step of a Llama can take on a device whose two ceilings were measured.

A step moves each weight and each key and value it needs through memory once, and multiplies what it
has to multiply; the larger of the two times is the floor (Williams, Waterman and Patterson,
"Roofline", 2009). Left out: activations, norms, sampling, and everything between kernels, so a
share of 1 cannot be reached.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from app.core.llama_shape import LlamaShape

WEIGHT_BYTES = {"bf16": 2, "int8": 1, "fp8": 1}
SCALE_BYTES = 4


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Bytes per second, read and written together; operations per second by the inputs' type, a
    product and a sum counted as two."""

    bytes_per_s: float
    operations_per_s: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Work:
    """Bytes to be moved, and operations by the type of their inputs."""

    num_bytes: int
    operations: Mapping[str, int]

    def floor_s(self, ceilings: Ceilings) -> float | None:
        """None where the rate of a type was not measured."""
        rates = ceilings.operations_per_s
        if not set(self.operations) <= set(rates):
            return None
        computing = sum(count / rates[kind] for kind, count in self.operations.items())
        return max(self.num_bytes / ceilings.bytes_per_s, computing)


@dataclass(frozen=True, slots=True)
class Served:
    """A model as it is served: the type of its linear layers, and the bytes of a key or value."""

    shape: LlamaShape
    weights: str
    kv_value_bytes: int = 2

    @property
    def linear_bytes(self) -> int:
        scales = 0 if self.weights == "bf16" else self.shape.linear_scales * SCALE_BYTES
        return self.shape.linear_values * WEIGHT_BYTES[self.weights] + scales

    @property
    def head_values(self) -> int:
        return self.shape.vocab_size * self.shape.hidden_size

    def decode_step(self, num_seqs: int, context: int) -> Work:
        """One token for each of `num_seqs` sequences that have `context` tokens behind them."""
        kv_tokens = num_seqs * (context + 1)
        num_bytes = (
            self.linear_bytes
            + (self.head_values + num_seqs * self.shape.hidden_size) * WEIGHT_BYTES["bf16"]
            + kv_tokens * self.shape.kv_bytes_per_token(self.kv_value_bytes)
        )
        attention = 2 * 2 * kv_tokens * self.heads_of_all_layers
        return self.work(num_bytes, num_seqs, num_seqs, attention)

    def prefill(self, num_seqs: int, length: int, step_tokens: int) -> Work:
        """`num_seqs` prompts of `length` tokens, in steps of at most `step_tokens`; each token
        attends to those before it, which is half of length x length."""
        tokens = num_seqs * length
        num_steps = -(-tokens // step_tokens)
        num_bytes = num_steps * self.linear_bytes + tokens * self.shape.kv_bytes_per_token(
            self.kv_value_bytes
        )
        attention = 2 * tokens * length * self.heads_of_all_layers
        return self.work(num_bytes, tokens, num_seqs, attention)

    @property
    def heads_of_all_layers(self) -> int:
        return self.shape.num_layers * self.shape.num_heads * self.shape.head_dim

    def work(self, num_bytes: int, tokens: int, sampled: int, attention: int) -> Work:
        """Head and attention are computed at 16 bit whatever the weights are."""
        operations = {"bf16": 2 * sampled * self.head_values + attention}
        linear = 2 * tokens * self.shape.linear_values
        operations[self.weights] = operations.get(self.weights, 0) + linear
        return Work(num_bytes, operations)
