"""Where load goes: a server's address, the key it wants, the model it serves, and what a gateway
says of itself."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from app.core.errors import AppError

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_KEY_FILE = Path(".state/demo-key")


class TargetError(AppError):
    """A server that cannot be used as a target; the sentence says what it answered."""


@dataclass(frozen=True)
class Target:
    name: str
    url: str
    api_key: str | None = field(default=None, repr=False)
    model: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}


def read_key(key_file: Path | None) -> str | None:
    """The key in `key_file`, which has to exist; without one, the key that `make serve` made."""
    path = key_file or DEFAULT_KEY_FILE
    if key_file is None and not path.exists():
        return None
    try:
        key = path.read_text().strip()
    except OSError as error:
        raise TargetError(f"The key file {path} cannot be read: {error.strerror}.") from error
    if not key or len(key.split()) != 1:
        raise TargetError(f"The key file {path} has to hold one key and nothing else.")
    return key


def first_model(target: Target) -> str:
    """The id of the first model that the target lists."""
    try:
        response = httpx.get(f"{target.url}/v1/models", headers=target.headers, timeout=30)
    except httpx.TransportError as error:
        raise TargetError(f"Nothing answers at {target.url} ({error}).") from error
    if response.status_code != 200:
        raise TargetError(f"{target.url}/v1/models answered {response.status_code}, not 200.")
    try:
        return str(response.json()["data"][0]["id"])
    except (ValueError, LookupError, TypeError) as error:
        raise TargetError(f"{target.url}/v1/models lists no model.") from error


def read_status(target: Target) -> dict[str, Any]:
    """A gateway's /admin/status."""
    answer = httpx.get(f"{target.url}/admin/status", headers=target.headers, timeout=30)
    status: dict[str, Any] = answer.raise_for_status().json()
    return status


def read_samples(target: Target) -> Iterator[Sample]:
    """Of all series on a gateway's /metrics."""
    answer = httpx.get(f"{target.url}/metrics", headers=target.headers, timeout=30)
    for family in text_string_to_metric_families(answer.raise_for_status().text):
        yield from family.samples
