"""Whether each request that was sent is found once: in the log, and in the usage records."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.soak.clients import Sent
from app.usage.files import find_chains
from app.usage.verification import Chain

Record = Mapping[str, Any]


@dataclass
class Accounts:
    """`faults` counts what does not add up, by what it is."""

    num_sent: int = 0
    num_records: int = 0
    faults: Counter[str] = field(default_factory=Counter)


def settle(sent: Sequence[Sent], log_file: Path, usage: Path) -> Accounts:
    accounts = Accounts(num_sent=len(sent))
    lines = by_id(read_log(log_file), "client_request_id", accounts)
    records = by_id(read_records(usage, accounts), "id", accounts)
    accounts.num_records = len(records)
    for each in sent:
        line = lines.get(each.id)
        if line is None:
            accounts.faults[f"{each.ask.kind}: not in the log"] += 1
        else:
            account_for(each, line, records.pop(line["request_id"], None), accounts.faults)
    accounts.faults["a record without a request"] += len(records)
    return accounts


def account_for(sent: Sent, line: Record, record: Record | None, faults: Counter[str]) -> None:
    """What the engine got has a record; its numbers are those of the log and of the client."""
    if record is None:
        if line["status"] == 200 or line.get("prompt_tokens"):
            faults["a request of the engine's has no record"] += 1
        return
    for name in ("prompt_tokens", "completion_tokens"):
        if record[name] != line.get(name, 0):
            faults[f"{name} differ between log and record"] += 1
    if sent.tokens and (sent.tokens.prompt, sent.tokens.completion) != (
        record["prompt_tokens"],
        record["completion_tokens"],
    ):
        faults[f"{sent.ask.kind}: tokens differ between client and record"] += 1
    if sent.status == 200 and sent.tokens and record["status"] != 200:
        faults["a whole answer is recorded as another"] += 1


def by_id(found: Iterable[Record], name: str, accounts: Accounts) -> dict[str, Record]:
    known: dict[str, Record] = {}
    for each in found:
        if each[name] in known:
            accounts.faults[f"{name} is there twice"] += 1
        known[each[name]] = each
    return known


def read_log(path: Path) -> Iterable[Record]:
    """The lines about requests that a client named."""
    for text in path.read_text(errors="replace").splitlines():
        if text.startswith("{") and '"client_request_id"' in text:
            yield json.loads(text)


def read_records(usage: Path, accounts: Accounts) -> Iterable[Record]:
    for replica, files in find_chains(usage).items():
        chain = Chain(replica, files)
        yield from chain
        accounts.faults["the chain of records is broken"] += len(chain.faults)
