"""Random checkpoints are what our own reader, safetensors and tokenizers take them for."""

import json
from pathlib import Path

import numpy as np
import pytest

from app.bench.gpu.random_checkpoint import (
    KINDS,
    CheckpointSizeError,
    e4m3_magnitudes,
    normal_codes,
    write_checkpoint,
)
from app.core.checkpoint import read_checkpoint
from app.core.checkpoint_problems import find_problems
from app.core.llama_shape import TINY, LlamaShape

SCHEMES = {"bf16": "unquantized", "int8": "w8a8-int8", "fp8": "fp8"}
"""Ours, by the kind of random checkpoint."""


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("random") / kind, TINY, kind)


def test_inspect_finds_the_scheme_and_nothing_wrong(kind: str, folder: Path) -> None:
    checkpoint = read_checkpoint(folder)
    assert checkpoint.scheme.name == SCHEMES[kind]
    assert list(find_problems(checkpoint)) == []
    values = sum(
        each.num_values for each in checkpoint.tensors if each.name.endswith("_proj.weight")
    )
    assert values == TINY.linear_values


def test_weights_are_spread_as_a_models_are(kind: str, folder: Path) -> None:
    import torch
    from safetensors import safe_open

    name = "model.layers.1.mlp.down_proj"
    with safe_open(folder / "layer-001.safetensors", "pt") as shard:
        weight = shard.get_tensor(f"{name}.weight").to(torch.float64)
        scale = shard.get_tensor(f"{name}.weight_scale").double() if kind != "bf16" else 1
    assert tuple(weight.shape) == TINY.matrices["mlp.down_proj"]
    assert weight.isfinite().all()
    assert abs((weight * scale).std().item() - 0.02) < 0.002
    assert (weight != 0).double().mean() > 0.98
    assert len(weight.unique()) > 100


def test_every_token_is_a_text_of_its_own(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer) == TINY.vocab_size
    ids = tokenizer.encode("copper lantern", add_special_tokens=False)
    assert tokenizer.decode(ids) == "copper lantern"
    assert tokenizer.apply_chat_template([{"role": "user", "content": "Hello"}], tokenize=False)


def test_a_vocabulary_of_128256_has_made_up_words(tmp_path: Path) -> None:
    shape = LlamaShape(64, 64, 1, 1, 1, 64, 128256)
    folder = write_checkpoint(tmp_path / "wide", shape, "int8")
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    assert vocabulary["\u0120w128255"] == 128255


def test_a_vocabulary_below_the_tokenizers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointSizeError, match="vocabulary of 100"):
        write_checkpoint(tmp_path / "small", LlamaShape(64, 64, 1, 1, 1, 64, 100), "bf16")
    assert not (tmp_path / "small").exists()


def test_one_that_is_there_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    assert list(write_checkpoint(tmp_path / "there", TINY, "int8").iterdir()) == []


def test_e4m3_is_what_torch_reads() -> None:
    import torch

    codes = torch.arange(0x7F, dtype=torch.uint8).view(torch.float8_e4m3fn).double()
    assert np.array_equal(codes.numpy(), e4m3_magnitudes())
    assert not np.isin(normal_codes("fp8"), [0x7F, 0xFF]).any()
