import json
import logging
import pickle

import pytest

from app.core.logs import FieldsRecord, JsonFormatter, TextFormatter

FIELDS: dict[str, object] = {"status": 200, "key": "shop", "stream": False, "duration_ms": 1.5}


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_a_record_of_fields_reads_like_one_with_extra(formatter: logging.Formatter) -> None:
    logger = logging.getLogger("gateway.access")
    quick = FieldsRecord(logger, logging.INFO, "request", FIELDS)
    usual = logger.makeRecord(logger.name, logging.INFO, "", 0, "request", (), None, extra=FIELDS)
    usual.created = quick.created
    assert formatter.format(quick) == formatter.format(usual)
    assert "duration_ms" in formatter.format(quick)


def test_what_json_does_not_know_is_logged_as_text() -> None:
    record = FieldsRecord(logging.getLogger("gateway"), logging.INFO, "x", {"who": {"a"}})
    assert json.loads(JsonFormatter().format(record))["who"] == "{'a'}"


def test_a_record_of_fields_is_for_others_formatters_too() -> None:
    names = vars(logging.LogRecord("", 0, "", 0, "", None, None)).keys()
    form = " ".join(f"%({name})s" for name in sorted(names)) + " %(process)d %(relativeCreated)d"
    record = FieldsRecord(logging.getLogger("gateway"), logging.INFO, "a request", FIELDS)
    assert "a request" in logging.Formatter(form + " %(asctime)s").format(record)
    assert pickle.loads(pickle.dumps(record)).fields == FIELDS
