import pytest

from app.core.deadlines import parse_timeout
from app.core.errors import InvalidRequest


@pytest.mark.parametrize(("given", "seconds"), [(b"1", 0.001), (b" 2500 ", 2.5), (b"60000", 60)])
def test_a_timeout_is_in_whole_milliseconds(given: bytes, seconds: float) -> None:
    assert parse_timeout(given, 60) == seconds


@pytest.mark.parametrize(
    "given",
    [b"", b"0", b"-1", b"1.5", b"1e3", b"+5", b"60001", b"9" * 5000, b"\xff", b"1_0", b"\xb2"],
)
def test_anything_else_is_refused_by_name(given: bytes) -> None:
    with pytest.raises(InvalidRequest) as raised:
        parse_timeout(given, 60)
    assert raised.value.param == "x-request-timeout-ms"
    assert "from 1 to 60000" in raised.value.sentence
