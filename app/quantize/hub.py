"""A repository of the Hugging Face hub, read over HTTP: headers only, never a whole shard."""

import os
import re

import httpx

from app.core.errors import CheckpointError

# One request brings a shard's length prefix and, for most shards, its whole header.
FIRST_BYTES = 128 * 1024
REPOSITORY = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")


class Repository:
    """A `Source` for app.core.checkpoint; HF_ENDPOINT and HF_TOKEN are honoured."""

    def __init__(self, name: str, revision: str = "main") -> None:
        if not REPOSITORY.fullmatch(name):
            raise CheckpointError(f"{name!r} is neither a directory nor a repository's name.")
        self.where = f"{name}@{revision}"
        endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
        token = os.environ.get("HF_TOKEN")
        # Bytes as they lie in the file: parts of a compressed answer have other places and sizes.
        headers = {"Accept-Encoding": "identity"}
        self.client = httpx.Client(
            base_url=f"{endpoint}/{name}/resolve/{revision}/",
            headers={**headers, "Authorization": f"Bearer {token}"} if token else headers,
            follow_redirects=True,
            timeout=30,
        )
        self.beginnings: dict[str, tuple[bytes, int] | None] = {}

    def size_bytes(self, name: str) -> int | None:
        beginning = self.beginning(name)
        return None if beginning is None else beginning[1]

    def read(self, name: str, num_bytes: int, start: int = 0) -> bytes:
        beginning = self.beginning(name)
        if beginning is None:
            raise CheckpointError(f"{name} is missing from {self.where}.")
        first, size = beginning
        end = min(start + num_bytes, size)
        if end <= len(first):
            return first[start:end]
        fetched = self.fetch(name, start, end)
        return b"" if fetched is None else fetched[0]

    def beginning(self, name: str) -> tuple[bytes, int] | None:
        """The file's first bytes and its size; None where there is no such file."""
        if name not in self.beginnings:
            self.beginnings[name] = self.fetch(name, 0, FIRST_BYTES)
        return self.beginnings[name]

    def fetch(self, name: str, start: int, end: int) -> tuple[bytes, int] | None:
        try:
            wanted = {"Range": f"bytes={start}-{end - 1}"}
            with self.client.stream("GET", name, headers=wanted) as response:
                if response.status_code == 404:
                    return None
                self.check(response, name, start)
                return self.take(response, end - start), self.total_size(response)
        except httpx.HTTPError as error:
            raise CheckpointError(f"{self.where}/{name} could not be fetched: {error}.") from error

    def check(self, response: httpx.Response, name: str, start: int) -> None:
        if response.status_code in (401, 403):
            raise CheckpointError(f"{self.where} is private or gated: set HF_TOKEN.")
        response.raise_for_status()
        if response.status_code != 206 and start > 0:
            raise CheckpointError(f"The server of {self.where} sends no part of {name}.")

    def take(self, response: httpx.Response, num_bytes: int) -> bytes:
        """No more than was asked for, whatever the server sends."""
        taken = bytearray()
        for chunk in response.iter_raw():
            taken += chunk
            if len(taken) >= num_bytes:
                break
        return bytes(taken[:num_bytes])

    def total_size(self, response: httpx.Response) -> int:
        """From `Content-Range: bytes 0-9/1234`, or the length of a whole answer."""
        total = response.headers.get("Content-Range", "").rpartition("/")[2]
        total = total or response.headers.get("Content-Length", "")
        if not total.isdigit():
            raise CheckpointError(f"The server of {self.where} does not tell a file's size.")
        return int(total)
