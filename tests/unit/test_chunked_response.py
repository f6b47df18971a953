from types import SimpleNamespace
from typing import Any

import pytest

from app.http_edge import ChunkedResponse


@pytest.mark.parametrize("size", [1, 15, 16, 1023, 1024, 70_000])
def test_each_part_is_a_chunk_of_its_size(size: int) -> None:
    written: list[bytes] = []
    transport = SimpleNamespace(write=written.append)
    cycle: Any = SimpleNamespace(disconnected=False, response_complete=False, transport=transport)
    ChunkedResponse(cycle).write(b"x" * size)
    [chunk] = written
    assert chunk == f"{size:x}\r\n".encode() + b"x" * size + b"\r\n"
