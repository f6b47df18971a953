import pytest

from app.engine.token_mask import first_allowed


@pytest.mark.parametrize(
    ("words", "token"),
    [([0, 0], None), ([1], 0), ([0, 0b1100], 34), ([-(2**31)], 31), ([0, -1], 32)],
)
def test_the_lowest_bit_is_the_first_token(words: list[int], token: int | None) -> None:
    assert first_allowed(words) == token
