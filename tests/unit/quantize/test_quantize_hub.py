import gzip
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.core.checkpoint import read_checkpoint, read_source
from app.core.errors import CheckpointError
from app.quantize import hub
from app.quantize.hub import Repository
from tests.unit.core.checkpoint_files import write_checkpoint, write_sharded


class HubHandler(http.server.BaseHTTPRequestHandler):
    """Answers /OWNER/NAME/resolve/main/FILE as the hub does, with parts of files."""

    directory: Path
    ranges = True
    sent: list[int]

    def do_GET(self) -> None:
        path = self.directory / self.path.rpartition("/")[2]
        if not self.path.startswith("/owner/name/resolve/main/") or not path.is_file():
            return self.send_error(404)
        if path.name == "config.json" and self.headers["Authorization"] != "Bearer hf_test":
            return self.send_error(401)
        data = path.read_bytes()
        if "gzip" in self.headers["Accept-Encoding"]:  # the hub compresses for who takes it
            data = gzip.compress(data)
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        part = data[int(first) : int(last) + 1] if self.ranges else data
        self.send_response(206 if self.ranges else 200)
        if self.ranges:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)
        self.sent.append(len(part))
        return None

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def handler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[HubHandler]]:
    kind = type("Handler", (HubHandler,), {"directory": tmp_path, "sent": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        yield kind
        server.shutdown()


@pytest.mark.parametrize("ranges", [True, False])
def test_a_repository_reads_as_its_directory_does(
    tmp_path: Path, handler: type[HubHandler], ranges: bool
) -> None:
    handler.ranges = ranges
    local = read_checkpoint(write_sharded(tmp_path))
    remote = read_source(Repository("owner/name"))
    assert remote.tensors == local.tensors
    assert remote.scheme == local.scheme
    assert remote.where == "owner/name@main"


def test_headers_are_read_and_shards_are_not(
    tmp_path: Path, handler: type[HubHandler], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path)
    monkeypatch.setattr(hub, "FIRST_BYTES", 1000)  # so that a header needs a second request
    checkpoint = read_source(Repository("owner/name"))
    assert checkpoint.tensors
    assert sum(handler.sent) < checkpoint.num_bytes / 4


def test_a_private_repository_asks_for_a_token(
    tmp_path: Path, handler: type[HubHandler], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(tmp_path)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(CheckpointError, match="set HF_TOKEN"):
        read_source(Repository("owner/name"))


def test_a_repository_that_is_not_there_is_named(handler: type[HubHandler]) -> None:
    with pytest.raises(CheckpointError, match=r"owner/absent@main has no config\.json"):
        read_source(Repository("owner/absent"))


def test_a_hub_that_cannot_be_reached_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match="could not be fetched"):
        read_source(Repository("owner/name"))


@pytest.mark.parametrize("name", ["absent", "a/b/c", "../x/y", "a/b?c", ""])
def test_what_is_neither_a_directory_nor_a_repository_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match="neither a directory nor a repository"):
        Repository(name)
