"""What a device can do at most, measured on it: `python -m app.engine.ceilings`.

Memory: a large copy from the device to itself, bytes read and written counted both. Arithmetic: one
large matrix product of random values for each type, by the library that torch calls. Medians, after
warm-up. Reported on one line.
"""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

from app.core.report_line import tell
from app.engine.device import describe_device


@dataclass(frozen=True)
class Sizes:
    """Bytes to copy, and the side of the square matrices; enough to fill the device."""

    copy_bytes: int
    side: int
    warm_up: int = 3
    repeat: int = 15


GPU = Sizes(4 * 2**30, 8192)
CPU = Sizes(2**28, 1024, warm_up=1, repeat=5)


def main() -> None:
    import torch

    on_gpu = torch.cuda.is_available()
    sizes, device = (GPU, "cuda") if on_gpu else (CPU, "cpu")
    wait = torch.cuda.synchronize if on_gpu else lambda: None
    found: dict[str, Any] = {
        "bytes_per_s": measure_copy(sizes, device, wait),
        "operations_per_s": dict(measure_products(sizes, device, wait)),
        **describe_device(),
    }
    tell(found)


def measure_copy(sizes: Sizes, device: str, wait: Callable[[], None]) -> float:
    import torch

    source = torch.randint(-128, 128, (sizes.copy_bytes,), dtype=torch.int8, device=device)
    target = torch.empty_like(source)
    return 2 * sizes.copy_bytes / median_s(lambda: target.copy_(source), sizes, wait)


def measure_products(
    sizes: Sizes, device: str, wait: Callable[[], None]
) -> Iterator[tuple[str, float]]:
    """A type that this device or this torch does not multiply is left out."""
    side = sizes.side
    for kind, make in (("bf16", bf16_product), ("int8", int8_product), ("fp8", fp8_product)):
        multiply = make(side, device)
        try:
            multiply()
        except RuntimeError as error:  # torch's word for a type, and its "not for this device" too
            sys.stderr.write(f"no {kind} product here: {str(error).splitlines()[0]}\n")
            continue
        yield kind, 2 * side**3 / median_s(multiply, sizes, wait)


def bf16_product(side: int, device: str) -> Callable[[], Any]:
    import torch

    a, b = (torch.randn(side, side, dtype=torch.bfloat16, device=device) for _ in range(2))
    return lambda: a @ b.t()


def int8_product(side: int, device: str) -> Callable[[], Any]:
    import torch

    a, b = (
        torch.randint(-127, 128, (side, side), dtype=torch.int8, device=device) for _ in range(2)
    )
    return lambda: torch._int_mm(a, b.t())


def fp8_product(side: int, device: str) -> Callable[[], Any]:
    import torch

    a, b = (torch.randn(side, side, device=device).to(torch.float8_e4m3fn) for _ in range(2))
    one = torch.ones((), device=device)
    out = torch.bfloat16
    return lambda: torch._scaled_mm(a, b.t(), scale_a=one, scale_b=one, out_dtype=out)


def median_s(work: Callable[[], Any], sizes: Sizes, wait: Callable[[], None]) -> float:
    """Each run is waited for: of a launch's few microseconds nothing is seen in milliseconds."""
    times = []
    for _ in range(sizes.warm_up + sizes.repeat):
        wait()
        started = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - started)
    return median(times[sizes.warm_up :])


if __name__ == "__main__":
    main()
