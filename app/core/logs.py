"""Log records as one line each: JSON for machines, short text for a terminal.

A record never holds a prompt, a completion or a key; what is logged of a request is listed in
app/api/observation.py.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from time import time

Fields = dict[str, object]
# Not ours to show; vLLM's record factory adds the last to every record of the process.
_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {
    *("message", "asctime", "taskName", "vllm_process_name"),
}


class FieldsRecord(logging.LogRecord):
    """What `logger.log(level, message, extra=fields)` makes, for a logger that says much: without
    a look for who calls, in which thread and process, in a tenth of the time."""

    _blank = vars(logging.LogRecord("", 0, "", 0, "", None, None))

    def __init__(self, logger: logging.Logger, level: int, message: str, fields: Fields) -> None:
        self.__dict__ |= self._blank
        self.name, self.levelno, self.levelname = logger.name, level, logging.getLevelName(level)
        self.msg, self.fields, self.created = message, fields, time()
        self.msecs = self.created % 1 * 1000


def fields_of(record: logging.LogRecord) -> Fields:
    """What was given as `extra`."""
    if isinstance(record, FieldsRecord):
        return record.fields
    return {name: value for name, value in vars(record).items() if name not in _PLAIN}


class JsonFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__()
        self._encode = json.JSONEncoder(default=str).encode

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= fields_of(record)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return self._encode(line)


class TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        clock = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        extra = " ".join(f"{name}={value}" for name, value in fields_of(record).items())
        line = f"{clock} {record.levelname.lower():<7} {record.getMessage()}  {extra}".rstrip()
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def configure_logging(level: str, style: str) -> None:
    """Our own log goes to standard output; vLLM's keeps to standard error.

    `style`: json, text, or auto (text on a terminal).
    """
    if style == "auto":
        style = "text" if sys.stdout.isatty() else "json"
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(TextFormatter() if style == "text" else JsonFormatter())
    logger = logging.getLogger("gateway")
    logger.handlers = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers = [handler]
        logging.getLogger(name).setLevel(logging.WARNING)
        logging.getLogger(name).propagate = False
