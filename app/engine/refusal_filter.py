"""Keeps vLLM from logging our refusals with a traceback each: they are answers, not failures."""

import logging

from vllm.exceptions import VLLMClientError

from app.core.errors import RequestError
from app.core.meter import current_meter


def is_worth_logging(record: logging.LogRecord) -> bool:
    """Not a wrong model's name, and not a traceback of a request that was refused: vLLM's
    converters also stumble over it."""
    if record.msg == "Error with model %s":
        return False  # a 404 that quotes the client
    if not record.exc_info:
        return True
    meter = current_meter.get()
    was_refused = meter is not None and meter.ticket is not None and meter.ticket.refusal
    return not (was_refused or isinstance(record.exc_info[1], RequestError | VLLMClientError))


def filter_refusals() -> None:
    """On vLLM's handlers: a filter of a logger does not see what its children log."""
    for handler in logging.getLogger("vllm").handlers:
        handler.addFilter(is_worth_logging)
