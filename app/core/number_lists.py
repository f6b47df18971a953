"""Lists of numbers on a command line."""

from app.core.errors import SettingsError


def read_numbers(text: str, option: str) -> list[int]:
    """Whole numbers from 1, with commas between. Raises SettingsError naming the option."""
    try:
        numbers = [int(word) for word in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise SettingsError(f"{option} has to be numbers with commas between, not {text[:40]!r}.")
    return numbers
