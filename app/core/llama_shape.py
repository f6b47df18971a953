"""Llama's sizes, and the matrices that follow from them."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class LlamaShape:
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    max_positions: int = 131072

    @property
    def matrices(self) -> dict[str, tuple[int, int]]:
        """One layer's linear weights as a checkpoint has them: (outputs, inputs) by name."""
        heads, kv_heads = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        hidden, inner = self.hidden_size, self.intermediate_size
        return {
            "self_attn.q_proj": (heads, hidden),
            "self_attn.k_proj": (kv_heads, hidden),
            "self_attn.v_proj": (kv_heads, hidden),
            "self_attn.o_proj": (hidden, heads),
            "mlp.gate_proj": (inner, hidden),
            "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }

    @property
    def products(self) -> dict[str, tuple[tuple[int, ...], int]]:
        """The matrix products that a layer computes: the outputs of each matrix that is fused into
        it, and the inputs."""
        heads, kv_heads = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        return {
            "qkv": ((heads, kv_heads, kv_heads), self.hidden_size),
            "output": ((self.hidden_size,), heads),
            "gate and up": ((self.intermediate_size,) * 2, self.hidden_size),
            "down": ((self.hidden_size,), self.intermediate_size),
        }

    @property
    def linear_values(self) -> int:
        """Of all layers; without embedding and head."""
        layer = sum(rows * columns for rows, columns in self.matrices.values())
        return layer * self.num_layers

    @property
    def linear_scales(self) -> int:
        """Output channels of all layers: each has a scale where the weights have eight bits."""
        return sum(rows for rows, _ in self.matrices.values()) * self.num_layers

    def kv_bytes_per_token(self, value_bytes: int) -> int:
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * value_bytes

    def config_json(self) -> dict[str, Any]:
        """config.json of Llama 3.1, at 16 bit."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "torch_dtype": "bfloat16",
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads,
            "head_dim": self.head_dim,
            "vocab_size": self.vocab_size,
            "max_position_embeddings": self.max_positions,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": False,
            "rope_theta": 500000.0,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
        }


# Llama-3.1-8B's config.json, and something of the same form that a CPU runs.
LLAMA_8B = LlamaShape(4096, 14336, 32, 32, 8, 128, 128256)
TINY = LlamaShape(256, 512, 2, 4, 2, 64, 1024)
SHAPES = {"llama-8b": LLAMA_8B, "tiny": TINY}
