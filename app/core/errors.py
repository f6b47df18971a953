"""The errors of the service. One sentence each: what is wrong and how to mend it."""

from collections.abc import Mapping


class AppError(Exception):
    """An expected failure. The command line prints the sentence and ends with `exit_code`."""

    exit_code = 2

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class SettingsError(AppError):
    """The configuration cannot be used; the sentence names the key."""


class CheckpointError(AppError):
    """A checkpoint is damaged, hostile, or not what it says it is."""

    exit_code = 3


class StartError(AppError):
    """The service refuses to start, or cannot go on."""

    exit_code = 4


class SchemeError(StartError):
    """The checkpoint is not of the scheme that the settings ask for."""

    exit_code = 12


class RequestError(AppError):
    """A request is answered with an error: its status, and the words of the API's envelope.

    `code` is a short stable name for programs; `param` names the offending field;
    `retry_after_s` becomes the Retry-After header; `headers` go out beside it.
    """

    status = 400
    kind = "invalid_request_error"
    code = "invalid_request"

    def __init__(
        self,
        sentence: str,
        *,
        status: int | None = None,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(sentence)
        self.status = status or self.status
        self.code = code or self.code
        self.param = param
        self.retry_after_s = retry_after_s
        self.headers = headers or {}


class InvalidRequest(RequestError):
    """400: the body or a field of it cannot be used."""


class Unauthenticated(RequestError):
    """401: no key, or one that is not known."""

    status = 401
    kind = "authentication_error"
    code = "invalid_api_key"


class Forbidden(RequestError):
    """403: the key is known and lacks the scope."""

    status = 403
    kind = "permission_error"
    code = "insufficient_scope"


class NotFound(RequestError):
    """404: no such route or model."""

    status = 404
    kind = "not_found_error"
    code = "not_found"


class Unavailable(RequestError):
    """503: not now; `retry_after_s` says when to come back."""

    status = 503
    kind = "service_unavailable_error"
    code = "service_unavailable"


class InternalError(RequestError):
    """500: our fault; the sentence says nothing of the inside."""

    status = 500
    kind = "internal_server_error"
    code = "internal_error"
