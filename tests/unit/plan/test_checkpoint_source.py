"""From where a model is planned: a directory, the hub's cache, the hub itself."""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.core.errors import CheckpointError
from app.core.memory.shape import ModelShape
from app.plan.checkpoint_source import read_shape
from tests.unit.core.checkpoint_files import write_checkpoint
from tests.unit.core.memory.models import LLAMA_31_8B
from tests.unit.quantize.test_quantize_hub import HubHandler


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(folder))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A hub that has one repository, owner/name; yields the directory that it serves."""
    directory = tmp_path / "served"
    directory.mkdir()
    kind = type("Handler", (HubHandler,), {"directory": directory, "sent": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        yield directory
        server.shutdown()


def names(shape: ModelShape) -> set[str]:
    return {tensor.name for tensor in shape.tensors}


def test_a_directory_with_weights_is_read_by_its_headers(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    write_checkpoint(folder)
    assert any(tensor.shard for tensor in read_shape(str(folder)).tensors)


def test_a_directory_without_weights_is_read_by_its_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_31_8B))
    shape = read_shape(str(tmp_path))
    assert len(shape.tensors) == 3 + 32 * 9
    assert not any(tensor.shard for tensor in shape.tensors)


def test_a_repository_is_planned_from_its_headers_on_the_hub(hub: Path) -> None:
    write_checkpoint(hub)
    assert names(read_shape("owner/name")) == names(read_shape(str(hub)))


def test_what_the_hubs_client_has_in_its_cache_needs_no_hub(cache: Path) -> None:
    repository = cache / "models--owner--name"
    snapshot = repository / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    write_checkpoint(snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abcd")
    assert names(read_shape("owner/name")) == names(read_shape(str(snapshot)))
    assert names(read_shape("owner/name", "0123abcd")) == names(read_shape(str(snapshot)))


def test_an_unfinished_download_is_not_taken_for_the_model(cache: Path) -> None:
    snapshot = cache / "models--owner--name" / "snapshots" / "main"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps(LLAMA_31_8B))
    with pytest.raises(CheckpointError, match="could not be fetched"):
        read_shape("owner/name")
