"""The command with servers that start at once; what a real one says is tested where it is said."""

import argparse
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import pytest
from prometheus_client.samples import Sample

from app.bench import start_command
from app.bench.server_process import ServerPlan
from app.bench.target import Target


class Started:
    """A server that compiles into its cache. `caches`: whether each start found something there."""

    caches: ClassVar[list[bool]] = []
    settings: ClassVar[list[str]] = []

    def __init__(self, plan: ServerPlan, log: Path) -> None:
        self.compiled = Path(plan.environment["VLLM_CACHE_ROOT"]) / "code"
        self.caches.append(self.compiled.exists())
        self.settings.append(" ".join(plan.arguments))
        self.log = log

    def __enter__(self) -> Self:
        self.compiled.parent.mkdir(parents=True, exist_ok=True)
        self.compiled.touch()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def wait_until_ready(self) -> Target:
        return Target("gateway", "http://127.0.0.1:1", "key", "bundled")


@pytest.fixture(autouse=True)
def _stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The n-th server takes n seconds for its engine."""
    Started.caches.clear()
    Started.settings.clear()

    def read_samples(_: Target) -> list[Sample]:
        phases = {"process": 0.5, "engine": float(len(Started.caches))}
        found = [Sample(start_command.SERIES, {"phase": name}, s) for name, s in phases.items()]
        return [*found, Sample("gateway_requests_in_flight", {}, 1.0)]

    monkeypatch.setattr(start_command, "FOLDER", tmp_path)
    monkeypatch.setattr(start_command, "CACHE", tmp_path / "compiled")
    monkeypatch.setattr(start_command, "ServerProcess", Started)
    monkeypatch.setattr(start_command, "read_samples", read_samples)
    monkeypatch.setattr(start_command, "first_token_s", lambda _: 0.25)


def test_the_table_has_the_medians_of_each_way_to_start(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- start: begin -->\nold\n<!-- start: end -->\n")
    asked = argparse.Namespace(repeat=3, profile="bundled", write=page)
    assert start_command.run(asked) == 0
    heading, *_, eager, empty, cached = [
        line for line in page.read_text().splitlines() if line and not line.startswith("<!--")
    ]
    assert "profile bundled, medians of 3" in heading
    assert eager.endswith("| 0.50 | 2.00 | 0.25 | 2.8 |")
    assert empty.endswith("| 0.50 | 5.00 | 0.25 | 5.8 |")
    assert cached.endswith("| 0.50 | 8.00 | 0.25 | 8.8 |")


def test_only_the_starts_that_say_so_find_compiled_code() -> None:
    start_command.run(argparse.Namespace(repeat=2, profile="bundled", write=None))
    assert Started.caches[2:] == [False, False, True, True]
    assert ["enforce_eager=true" in each for each in Started.settings] == [True] * 2 + [False] * 4
