"""How long a request may take: what a client or its key says, and what becomes of a late one."""

from app.core.errors import InvalidRequest, RequestError

TIMEOUT_HEADER = "x-request-timeout-ms"
# Beyond it a client means "never": leave the header out.
MOST_TIMEOUT_MS = 86_400_000


class DeadlineExceeded(RequestError):
    """504: the request was being worked on when its time was over."""

    status = 504
    kind = "timeout_error"
    code = "deadline_exceeded"


def parse_timeout(given: bytes, most_s: float) -> float:
    """Seconds, from the header's value. Raises InvalidRequest for none and for above `most_s`."""
    most_ms = int(most_s * 1000)
    text = given.decode("latin-1").strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and 0 < int(text) <= most_ms):
        raise InvalidRequest(
            f"{TIMEOUT_HEADER} has to be a whole number of milliseconds from 1 to {most_ms}.",
            param=TIMEOUT_HEADER,
            code="invalid_value",
        )
    return int(text) / 1000
