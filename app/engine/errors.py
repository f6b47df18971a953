"""What vLLM raises, as errors of ours. A class that is not mapped is a 500 without words."""

from vllm.entrypoints.serve.exception_handling.error_response import create_error_response
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from app.core.errors import InternalError, RequestError, Unavailable
from app.core.foreign_errors import RETRY_AFTER_S, adopt


def translate(error: Exception) -> RequestError:
    """The answer for an exception that left vLLM's code."""
    if isinstance(error, EngineDeadError):
        return Unavailable(
            "The engine has died; the service restarts.",
            code="engine_dead",
            retry_after_s=RETRY_AFTER_S,
        )
    if isinstance(error, EngineGenerateError):
        return InternalError("The engine failed on this request.", code="engine_error")
    answer = create_error_response(error).error
    return adopt(answer.code, answer.message, answer.param)
