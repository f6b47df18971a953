"""What vLLM raises, as errors of ours. A class that is not mapped is a 500 without words."""

from vllm.entrypoints.anthropic import serving as anthropic_serving
from vllm.entrypoints.serve.exception_handling import error_response
from vllm.entrypoints.serve.exception_handling.utils import sanitize_message
from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

from app.core.errors import InternalError, RequestError, Unavailable
from app.core.foreign_errors import RETRY_AFTER_S, adopt

_MAX_MESSAGE_CHARS = 400  # some milliseconds at worst


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
    answer = error_response.create_error_response(error).error
    return adopt(answer.code, answer.message, answer.param)


def bound_messages() -> None:
    """vLLM takes paths out of an error by a pattern whose time goes by the cube of the text, on the
    event loop: 8 KB of slashes that an error quoted took 11 s. Let it see the beginning."""
    for module in (error_response, anthropic_serving):
        module.sanitize_message = sanitize_beginning


def sanitize_beginning(message: str) -> str:
    beginning: str = sanitize_message(message[:_MAX_MESSAGE_CHARS])
    return beginning
