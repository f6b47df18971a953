"""Usage records for the tests."""

from pathlib import Path

from app.core.usage import JournalState, UsageRecord
from app.usage.journal import UsageJournal


def record(number: int, tenant: str = "shop", day: str = "2027-01-31") -> UsageRecord:
    return UsageRecord(
        id=f"r{number}",
        time=f"{day}T12:00:00.000+00:00",
        key=f"{tenant}-key",
        tenant=tenant,
        model="bundled",
        route="/v1/chat/completions",
        status=200,
        prompt_tokens=10,
        cached_tokens=4,
        completion_tokens=number,
        queue_ms=None,
        ttft_ms=None,
        duration_ms=1.0,
        finish_reason="stop",
    )


def journal(
    directory: Path, replica: str = "r", max_file_bytes: int = 1 << 20
) -> tuple[UsageJournal, list[JournalState]]:
    """One that is flushed by the test, and what its observer has heard."""
    heard: list[JournalState] = []
    return UsageJournal(directory, replica, max_file_bytes, heard.append), heard


def written(
    directory: Path, *numbers: int, replica: str = "r", max_file_bytes: int = 1 << 20
) -> None:
    """Records of these numbers, each flushed by itself."""
    made, _ = journal(directory, replica, max_file_bytes)
    for number in numbers:
        made.append(record(number))
        made.flush()
    made.close()
