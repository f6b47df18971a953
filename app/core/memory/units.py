"""Sizes as people read them."""

from app.core.gpus import GIB, MIB


def readable(num_bytes: float) -> str:
    """In GiB, or in MiB below half a GiB."""
    if abs(num_bytes) < GIB / 2:
        return f"{num_bytes / MIB:.1f} MiB"
    return f"{num_bytes / GIB:.2f} GiB"
