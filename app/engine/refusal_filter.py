"""Keeps vLLM from logging our refusals with a traceback each: they are answers, not failures."""

import logging

from app.core.errors import RequestError


def is_worth_logging(record: logging.LogRecord) -> bool:
    raised = record.exc_info[1] if record.exc_info else None
    return not isinstance(raised, RequestError)


def filter_refusals() -> None:
    """On vLLM's handlers: a filter of a logger does not see what its children log."""
    for handler in logging.getLogger("vllm").handlers:
        handler.addFilter(is_worth_logging)
