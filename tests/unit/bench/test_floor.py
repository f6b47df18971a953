from pathlib import Path

import pytest

from app.bench import floor
from app.bench.floor import FloorError, floor_lines, measure_floor


def test_the_floor_stands_beside_the_stock_server() -> None:
    lines = floor_lines({"64 streams": 20.0, "others": 30.0}, {"64 streams": 80.0})
    assert lines[-2:] == ["| 64 streams | 20 (0.25) |", "| others | 30 |"]
    assert floor_lines({}, {}) == []


def run_as(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str) -> dict[str, float]:
    """`code` in place of the program that measures."""
    (folder / "stand_in.py").write_text(code)
    monkeypatch.setattr(floor, "MODULE", "stand_in")
    environment = {"PYTHONPATH": str(folder)}
    return measure_floor(Path("m"), {"a": "4x8", "b": "2x2"}, 1, environment, folder / "log")


def test_loads_are_given_by_their_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = (
        "import sys; print('report: {\"4x8\": 1.5, \"2x2\": %d}' % len(sys.argv)); print('noise')"
    )
    assert run_as(monkeypatch, tmp_path, code) == {"a": 1.5, "b": 9.0}


def test_where_it_fails_the_log_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = "import sys; sys.exit('why')"
    with pytest.raises(FloorError, match=str(tmp_path / "log")):
        run_as(monkeypatch, tmp_path, code)
    assert "why" in (tmp_path / "log").read_text()
