"""When requests are sent."""

import math
import random
from dataclasses import dataclass
from typing import TypeVar

from app.core.errors import AppError

Number = TypeVar("Number", int, float)


class ArrivalsError(AppError):
    """An arrival process that cannot be meant."""


@dataclass(frozen=True)
class ClosedLoop:
    """So many clients, each of which asks again when it has its answer."""

    concurrency: int


@dataclass(frozen=True)
class OpenLoop:
    """Requests come whether earlier ones have been answered or not. The rate, in requests per
    second, goes from `from_rate` to `to_rate`, linearly over the requests; they come in bursts of
    `burst`, and the time between bursts is exponential.
    """

    from_rate: float
    to_rate: float
    burst: int = 1

    def due_times(self, num_requests: int, dice: random.Random) -> list[float]:
        """Seconds from the start of the run."""
        times: list[float] = []
        at_s = 0.0
        while len(times) < num_requests:
            share = len(times) / max(1, num_requests - 1)
            rate = self.from_rate + (self.to_rate - self.from_rate) * share
            at_s += dice.expovariate(rate / self.burst)
            times += [at_s] * min(self.burst, num_requests - len(times))
        return times


Arrivals = ClosedLoop | OpenLoop

FORMS = "closed:CLIENTS, poisson:RATE, bursty:RATE:SIZE or ramp:FROM:TO"


def parse_arrivals(text: str) -> Arrivals:
    kind, *numbers = text.split(":")
    try:
        match kind, numbers:
            case "closed", [clients]:
                return ClosedLoop(checked(int(clients)))
            case "poisson", [rate]:
                return OpenLoop(checked(float(rate)), checked(float(rate)))
            case "bursty", [rate, size]:
                return OpenLoop(checked(float(rate)), checked(float(rate)), checked(int(size)))
            case "ramp", [from_rate, to_rate]:
                return OpenLoop(checked(float(from_rate)), checked(float(to_rate)))
    except ValueError as error:
        raise ArrivalsError(f"In {text!r} a number is not one above 0.") from error
    raise ArrivalsError(f"{text!r} is none of {FORMS}.")


def checked(number: Number) -> Number:
    if not number > 0 or math.isinf(number):
        raise ValueError
    return number
