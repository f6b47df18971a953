"""A stand-in for the engine's process."""

import sys
from pathlib import Path

import pytest

from app.bench.gpu import offline_engine

STAND_IN = (sys.executable, str(Path(__file__).with_name("stand_in_engine.py")))


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline_engine, "ENGINE", STAND_IN)
