import argparse

import pytest

from app.core.errors import SettingsError
from app.core.number_arguments import positive, read_numbers


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "x"])
def test_what_is_no_whole_number_from_1_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="at least 1"):
        positive(text)
    with pytest.raises(SettingsError, match="--sizes"):
        read_numbers(f"4,{text}", "--sizes")


def test_numbers_are_read_in_their_order() -> None:
    assert positive("12") == 12
    assert read_numbers("64, 8,1", "--sizes") == [64, 8, 1]
