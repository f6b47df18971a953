from pathlib import Path

import pytest

from app.bench.comparison import SectionError, comparison_lines, write_section
from tests.unit.bench.test_campaign import measurement


def test_each_server_is_compared_with_stock_under_the_same_load() -> None:
    rows = comparison_lines(
        [
            measurement("stock", "x", 2.0),
            measurement("gateway", "x", 1.0),
            measurement("gateway", "y", 1.0),
        ],
        "stock",
    )[4:]
    assert "| x | stock | 100 |" in rows[0]
    assert "1000 (0.50)" in rows[1]
    assert "(" not in rows[2]


def test_the_table_replaces_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "performance.md"
    begin, end = "<!-- a: begin -->", "<!-- a: end -->"
    path.write_text(f"# Speed\n\n{begin}\nold\n{end}\n\nHow.\n")
    write_section(path, ["new"], "a")
    write_section(path, ["newer"], "a")
    assert path.read_text() == f"# Speed\n\n{begin}\n\nnewer\n\n{end}\n\nHow.\n"


def test_a_file_without_a_place_for_the_table_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "performance.md"
    path.write_text("# Speed\n")
    with pytest.raises(SectionError, match="lacks the lines"):
        write_section(path, ["new"], "a")
    assert path.read_text() == "# Speed\n"
