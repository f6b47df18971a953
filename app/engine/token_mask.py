"""A grammar's bit mask over the vocabulary, 32 bits per word, as xgrammar makes it."""

from collections.abc import Sequence


def first_allowed(words: Sequence[int]) -> int | None:
    """The lowest token that is allowed; None where none is. Words may be signed."""
    for index, word in enumerate(words):
        if bits := int(word) & 0xFFFFFFFF:
            return index * 32 + (bits & -bits).bit_length() - 1
    return None
