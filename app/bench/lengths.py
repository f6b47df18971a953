"""How long prompts and answers are."""

import math
import random
from dataclasses import dataclass

from app.core.errors import AppError


class LengthsError(AppError):
    """A distribution of lengths that cannot be meant."""


@dataclass(frozen=True)
class Lengths:
    """Log-normal around `median`; a `sigma` of 0 is that length always."""

    median: int
    sigma: float = 0.0

    def draw(self, dice: random.Random) -> int:
        if self.sigma == 0:
            return self.median
        return max(1, round(dice.lognormvariate(math.log(self.median), self.sigma)))


def parse_lengths(text: str) -> Lengths:
    kind, *numbers = text.split(":")
    try:
        match kind, numbers:
            case "lognormal", [median, sigma]:
                lengths = Lengths(int(median), float(sigma))
            case _, []:
                lengths = Lengths(int(kind))
            case _:
                raise ValueError
    except ValueError as error:
        raise LengthsError(f"{text!r} is neither TOKENS nor lognormal:MEDIAN:SIGMA.") from error
    if lengths.median < 1 or not 0 <= lengths.sigma < 4:
        raise LengthsError(f"{text!r} needs a length of at least 1 and a sigma from 0 to 4.")
    return lengths
