"""Faults, and the table of what they did: `make faults-table` writes it into the documentation."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.fault_table import FaultTable

ROOT = Path(__file__).parents[2]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-table", action="store_true", help="write docs/reliability.md anew")


@pytest.fixture(scope="session")
def table(request: pytest.FixtureRequest) -> Iterator[FaultTable]:
    rows = FaultTable()
    yield rows
    if request.config.getoption("--write-table") and not request.session.testsfailed:
        rows.write(ROOT / "docs" / "reliability.md")
