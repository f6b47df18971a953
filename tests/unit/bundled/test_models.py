"""The two tracked checkpoints are what their card says."""

import hashlib
import json
from pathlib import Path

import pytest

from app.bundled.recorded_score import read_record
from app.bundled.scoring import Tally
from app.core.checkpoint import read_checkpoint
from app.core.checkpoint_scheme import SchemeName

MODELS = Path(__file__).parents[3] / "models" / "bundled"
BF16 = MODELS / "bf16"
W8A8 = MODELS / "w8a8"
MIB = 2**20


def test_the_checkpoints_are_small_enough_to_track() -> None:
    files = [path for path in MODELS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 16 * MIB
    assert max(path.stat().st_size for path in files) < 10 * MIB


def test_the_original_is_a_small_llama_in_bfloat16() -> None:
    checkpoint = read_checkpoint(BF16)
    assert checkpoint.scheme.name is SchemeName.UNQUANTIZED
    architecture = checkpoint.architecture
    assert (architecture.name, architecture.head_dim) == ("LlamaForCausalLM", 64)
    assert architecture.num_heads > architecture.num_kv_heads
    assert architecture.rope_scaling == "llama3"
    assert {tensor.dtype for tensor in checkpoint.tensors} == {"BF16"}
    assert sum(tensor.num_values for tensor in checkpoint.tensors) < 4_000_000


def test_the_quantized_one_is_int8_w8a8_of_the_same_network() -> None:
    original, quantized = read_checkpoint(BF16), read_checkpoint(W8A8)
    assert quantized.scheme.name is SchemeName.W8A8_INT8
    assert str(quantized.scheme.activations) == "int8 per token, symmetric, dynamic"
    assert quantized.architecture == original.architecture
    int8 = {tensor.name: tensor.shape for tensor in quantized.tensors if tensor.dtype == "I8"}
    expected = {
        tensor.name: tensor.shape
        for tensor in original.tensors
        if tensor.name.endswith("_proj.weight")
    }
    assert int8 == expected
    scales = {tensor.name: tensor.shape for tensor in quantized.tensors}
    assert all(scales[f"{name}_scale"] == (shape[0], 1) for name, shape in int8.items())
    assert scales["lm_head.weight"] == (1024, 256)


@pytest.mark.parametrize("name", ["tokenizer.json", "chat_template.jinja"])
def test_both_speak_the_same_tokens(name: str) -> None:
    one, other = (hashlib.sha256((model / name).read_bytes()).digest() for model in (BF16, W8A8))
    assert one == other


def test_the_template_in_the_checkpoint_is_the_one_in_the_code() -> None:
    code = Path(__file__).parents[3] / "app" / "bundled" / "chat_template.jinja"
    assert (BF16 / "chat_template.jinja").read_text() == code.read_text()


def test_the_calibration_conversations_are_complete() -> None:
    rows = [json.loads(line) for line in (MODELS / "calibration.jsonl").read_text().splitlines()]
    assert len(rows) == 512
    assert all(row["messages"][-1]["role"] == "assistant" for row in rows)


def test_the_record_of_its_score_is_what_its_page_shows() -> None:
    page, record = (MODELS / "README.md").read_text(), MODELS / "score.json"
    for skill in ("arithmetic", "json", "tool", "total"):
        cells = []
        for name in ("bundled-16bit", "bundled"):
            tally = Tally(**json.loads(record.read_text())[name][skill])
            low, high = (f"{100 * end:.2f}" for end in tally.interval)
            cells.append(f"{100 * tally.share:.2f} % ({low} to {high})")
        assert f"| {skill} | {' | '.join(cells)} |" in page
    assert {tally.asked for tally in read_record(record).values()} == {1500}
