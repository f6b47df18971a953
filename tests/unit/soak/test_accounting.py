"""What does not add up is said: requests, log lines and usage records, held against each other."""

import json
from pathlib import Path
from typing import Any

from app.core.usage import Head, UsageRecord
from app.soak.accounting import Accounts, settle
from app.soak.clients import Sent, Tokens
from app.soak.mix import Ask, Leaving
from app.usage.files import file_of

ASK = Ask("chat", "/v1/chat/completions", {})
LEFT = Ask("left", "/v1/chat/completions", {}, leaving=Leaving.WAITING)


def line(number: int, **more: Any) -> dict[str, Any]:
    known = {"client_request_id": f"soak-{number}", "request_id": f"r{number}", "status": 200}
    return {**known, "prompt_tokens": 7, "completion_tokens": 3, **more}


def record(number: int, prompt_tokens: int = 7, status: int = 200) -> UsageRecord:
    names = ("2026-01-01T00:00:00", "local", "local", "bundled", "/v1/chat/completions")
    counts = (prompt_tokens, 0, 3)
    return UsageRecord(f"r{number}", *names, status, *counts, None, None, 1.0, "stop")


def whole(number: int) -> Sent:
    return Sent(f"soak-{number}", ASK, 200, Tokens(7, 3))


def settled(
    folder: Path, sent: list[Sent], lines: list[dict[str, Any]], records: list[UsageRecord]
) -> Accounts:
    log = folder / "log"
    log.write_text("\n".join(["no JSON", *map(json.dumps, lines)]))
    usage, head = bytearray(), Head()
    for each in records:
        text, head = head.follow(each)
        usage += text + b"\n"
    file_of(folder, "soak", 1).write_bytes(usage)
    return settle(sent, log, folder)


def test_what_is_found_once_everywhere_adds_up(tmp_path: Path) -> None:
    accounts = settled(tmp_path, [whole(1), whole(2)], [line(1), line(2)], [record(1), record(2)])
    assert (accounts.num_sent, accounts.num_records) == (2, 2)
    assert not +accounts.faults


def test_what_the_engine_never_got_needs_no_record(tmp_path: Path) -> None:
    refused = Sent("soak-1", ASK, 400)
    left = Sent("soak-2", LEFT, 0)
    lines = [line(1, status=400, prompt_tokens=0), line(2, status=499, prompt_tokens=0)]
    assert not +settled(tmp_path, [refused, left], lines, []).faults


def test_each_thing_that_does_not_add_up_is_named(tmp_path: Path) -> None:
    left = Sent("soak-2", LEFT, 0)
    for sent, lines, records, said in (
        ([whole(1)], [], [], "chat: not in the log"),
        ([whole(1)], [line(1)], [], "a request of the engine's has no record"),
        ([left], [line(2, status=499)], [], "a request of the engine's has no record"),
        ([whole(1)], [line(1), line(1)], [record(1)], "client_request_id is there twice"),
        ([whole(1)], [line(1)], [record(1), record(1)], "id is there twice"),
        ([whole(1)], [line(1)], [record(1), record(2)], "a record without a request"),
        ([whole(1)], [line(1)], [record(1, 8)], "prompt_tokens differ between log and record"),
        ([whole(1)], [line(1)], [record(1, 7, 499)], "a whole answer is recorded as another"),
    ):
        assert settled(tmp_path, sent, lines, records).faults[said], said
    longer = Sent("soak-1", ASK, 200, Tokens(7, 4))
    faults = settled(tmp_path, [longer], [line(1)], [record(1)]).faults
    assert faults["chat: tokens differ between client and record"]
