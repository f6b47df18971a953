"""Numbers on a command line."""

import argparse

from app.core.errors import SettingsError


def positive(text: str) -> int:
    """For argparse: a whole number from 1."""
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("it must be at least 1")
    return int(text)


def read_numbers(text: str, option: str) -> list[int]:
    """Whole numbers from 1, with commas between. Raises SettingsError naming the option."""
    try:
        numbers = [int(word) for word in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise SettingsError(f"{option} has to be numbers with commas between, not {text[:40]!r}.")
    return numbers
