from types import SimpleNamespace
from typing import Any

import pytest

from app.http_edge import ChunkedResponse


@pytest.mark.parametrize("size", [1, 15, 16, 1023, 1024, 70_000])
def test_each_part_is_a_chunk_of_its_size(size: int) -> None:
    written: list[bytes] = []
    transport: Any = SimpleNamespace(write=written.append)
    ChunkedResponse(transport, is_blocked=False).write(b"x" * size)
    [chunk] = written
    assert chunk == f"{size:x}\r\n".encode() + b"x" * size + b"\r\n"


def test_nothing_is_written_once_it_is_over() -> None:
    transport: Any = SimpleNamespace(write=pytest.fail)
    response = ChunkedResponse(transport, is_blocked=True)
    response.end()
    response.write(b"x")
    assert not response.is_blocked
