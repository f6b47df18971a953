import json
import os
from pathlib import Path
from typing import Any

import pytest

from app.core.checkpoint import Directory, digest_checkpoint, read_checkpoint, read_source
from app.core.checkpoint_scheme import SchemeName, parse_scheme
from app.core.errors import CheckpointError
from tests.unit.core.checkpoint_files import (
    CONFIG,
    W8A8,
    model_tensors,
    write_checkpoint,
    write_raw_shard,
    write_sharded,
)


def test_a_w8a8_checkpoint_is_read_from_its_headers(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write_checkpoint(tmp_path))
    assert checkpoint.scheme.name is SchemeName.W8A8_INT8
    assert str(checkpoint.scheme.activations) == "int8 per token, symmetric, dynamic"
    assert checkpoint.scheme.ignore == ("lm_head",)
    assert checkpoint.architecture.num_layers == 2
    assert checkpoint.architecture.head_dim == 32
    assert checkpoint.architecture.rope_theta == 10000.0
    assert len(checkpoint.tensors) == len(model_tensors())
    assert checkpoint.num_bytes == sum(t.num_bytes for t in checkpoint.tensors) > 0


def test_shards_with_an_index_read_as_one_file_does(tmp_path: Path) -> None:
    one = read_checkpoint(write_checkpoint(tmp_path / "one"))
    two = read_checkpoint(write_sharded(tmp_path / "two"))
    assert {t.name: t.shape for t in one.tensors} == {t.name: t.shape for t in two.tensors}
    assert len(two.shards) == 2


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    shard = "model-00002-of-00002.safetensors"
    (write_sharded(tmp_path) / shard).unlink()
    with pytest.raises(CheckpointError, match=f"{shard} is missing"):
        read_checkpoint(tmp_path)


def test_damage_can_be_collected_while_the_rest_is_read(tmp_path: Path) -> None:
    (write_sharded(tmp_path) / "model-00002-of-00002.safetensors").unlink()
    damage: list[CheckpointError] = []
    checkpoint = read_source(Directory(tmp_path), damage.append)
    assert [one.sentence for one in damage] == [
        f"model-00002-of-00002.safetensors is missing from {tmp_path}."
    ]
    assert checkpoint.tensors


def test_a_truncated_shard_is_named(tmp_path: Path) -> None:
    shard = write_checkpoint(tmp_path) / "model.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is truncated"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        *("../secret.safetensors", "/etc/passwd", "a\nb.safetensors", 7),
        "\N{EURO SIGN}" * 85 + ".safetensors",  # 267 bytes: no file system has such a name
    ],
)
def test_an_index_cannot_lead_out_of_its_directory(tmp_path: Path, name: Any) -> None:
    write_checkpoint(tmp_path)
    index = {"weight_map": {"a": name}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="as a shard"):
        read_checkpoint(tmp_path)


def test_an_index_that_disagrees_with_its_shards_is_refused(tmp_path: Path) -> None:
    path = write_sharded(tmp_path) / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["model.layers.0.extra"] = "model-00001-of-00002.safetensors"
    path.write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"disagree about where model\.layers\.0\.extra"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_hidden_layers", 0),
        ("num_hidden_layers", True),
        ("num_hidden_layers", 2**31 - 1),  # `inspect` and `plan` count through them
        ("rope_parameters", {"rope_theta": 10**400}),
        ("num_attention_heads", None),
        ("hidden_size", 2**40),
        ("vocab_size", "many"),
    ],
)
def test_a_config_that_cannot_be_is_refused_by_key(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(CheckpointError, match="rope_theta" if key == "rope_parameters" else key):
        read_checkpoint(write_checkpoint(tmp_path, **{key: value}))


def test_heads_of_no_width_are_refused(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"head_dim": None, "num_attention_heads": 128}
    with pytest.raises(CheckpointError, match="hidden_size is too small for 128 heads"):
        read_checkpoint(write_checkpoint(tmp_path, **changes))


def test_a_directory_without_a_config_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        read_checkpoint(tmp_path)


def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    (write_checkpoint(tmp_path) / "model.safetensors").unlink()
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="missing"):
        read_checkpoint(tmp_path)


def test_older_and_multimodal_configs_are_understood(tmp_path: Path) -> None:
    text = {**CONFIG, "rope_theta": 500000.0, "torch_dtype": "float16"}
    del text["rope_parameters"], text["dtype"], text["head_dim"], text["num_key_value_heads"]
    text["rope_scaling"] = {"rope_type": "llama3", "factor": 8.0}
    directory = write_checkpoint(tmp_path)
    (directory / "config.json").write_text(json.dumps({"text_config": text}))
    architecture = read_checkpoint(directory).architecture
    assert architecture.rope_theta == 500000.0
    assert architecture.rope_scaling == "llama3"
    assert architecture.dtype == "float16"
    assert (architecture.num_kv_heads, architecture.head_dim) == (2, 32)


def changed(**weights: Any) -> dict[str, Any]:
    group = W8A8["config_groups"]["group_0"]
    group = {**group, "weights": {**group["weights"], **weights}}
    return {"quantization_config": {**W8A8, "config_groups": {"group_0": group}}}


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({}, SchemeName.UNQUANTIZED),
        ({"quantization_config": W8A8}, SchemeName.W8A8_INT8),
        ({"quantization_config": {"quant_method": "fp8"}}, SchemeName.FP8),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, SchemeName.OTHER),
        (changed(num_bits=4), SchemeName.OTHER),
        (changed(type="float"), SchemeName.OTHER),
    ],
)
def test_the_scheme_is_told_from_the_config(config: dict[str, Any], name: SchemeName) -> None:
    assert parse_scheme(config, "config.json").name is name


@pytest.mark.parametrize(
    "quantization",
    [[], "int8", {}, {"config_groups": [1]}, {"config_groups": {"a": 1}}, changed(num_bits="8")],
)
def test_a_malformed_quantization_config_is_refused(quantization: Any) -> None:
    config = quantization if "quantization_config" in quantization else None
    with pytest.raises(CheckpointError, match="quantization_config"):
        parse_scheme(config or {"quantization_config": quantization or [0]}, "config.json")


def test_the_digest_changes_with_every_bit_of_config_and_shards(tmp_path: Path) -> None:
    directory = write_sharded(tmp_path)
    seen = {digest_checkpoint(directory)}
    for name in ("config.json", "model-00001-of-00002.safetensors"):
        data = bytearray((directory / name).read_bytes())
        data[-1] ^= 1
        (directory / name).write_bytes(data)
        seen.add(digest_checkpoint(directory))
    assert len(seen) == 3
    (directory / "quality.json").write_text("{}")
    assert digest_checkpoint(directory) in seen


def test_a_digest_of_a_checkpoint_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    (write_sharded(tmp_path) / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="missing"):
        digest_checkpoint(tmp_path)


def test_tensors_of_two_shards_may_not_share_a_name(tmp_path: Path) -> None:
    directory = write_sharded(tmp_path)
    first = (directory / "model-00001-of-00002.safetensors").read_bytes()
    (directory / "model-00002-of-00002.safetensors").write_bytes(first)
    with pytest.raises(CheckpointError, match="is both in"):
        read_checkpoint(directory)


def test_an_empty_shard_is_a_shard(tmp_path: Path) -> None:
    write_raw_shard(write_checkpoint(tmp_path) / "model.safetensors", b"{}", 0)
    assert read_checkpoint(tmp_path).tensors == ()
