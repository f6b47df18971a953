"""`python -m app usage`: prove that usage records are whole, and sum them."""

import argparse
import re
import sys
from pathlib import Path

from app.core.errors import SettingsError
from app.core.usage import GENESIS
from app.usage.files import find_chains
from app.usage.summary import GROUPS, Summary, is_between
from app.usage.verification import Chain

DEFAULT_DIRECTORY = Path(".state/usage")
_HASH = re.compile(r"[0-9a-f]{64}")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    verify = actions.add_parser("verify", help="check every chain; ends with 1 where one is broken")
    verify.add_argument(
        "--after",
        type=parse_hash,
        default=GENESIS,
        metavar="HASH",
        help="the head of the records that were archived away (with --replica)",
    )
    report = actions.add_parser("report", help="requests and tokens, summed")
    report.add_argument(
        "--by",
        type=parse_groups,
        default=("tenant",),
        metavar="GROUP[,GROUP]",
        help=f"of {', '.join(GROUPS)} (default: tenant)",
    )
    report.add_argument("--since", type=parse_day, metavar="DAY", help="in UTC")
    report.add_argument("--until", type=parse_day, metavar="DAY", help="exclusive")
    report.add_argument("--csv", action="store_true")
    for action in (verify, report):
        action.add_argument("--directory", type=Path, default=DEFAULT_DIRECTORY)
        action.add_argument("--replica", help="only this one's chain")


def parse_hash(text: str) -> str:
    if not _HASH.fullmatch(text):
        raise argparse.ArgumentTypeError("it has 64 hexadecimal digits")
    return text


def parse_day(text: str) -> str:
    if not _DAY.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r}: write it as 2027-01-31")
    return text


def parse_groups(text: str) -> tuple[str, ...]:
    groups = tuple(text.split(","))
    if unknown := set(groups) - set(GROUPS):
        raise argparse.ArgumentTypeError(f"{min(unknown)!r} is none of {', '.join(GROUPS)}")
    return groups


def run(arguments: argparse.Namespace) -> int:
    chains = read_chains(arguments.directory, arguments.replica)
    if arguments.action == "report":
        return report(chains, arguments)
    if arguments.after != GENESIS and not arguments.replica:
        raise SettingsError("--after is the head of one chain: name it with --replica.")
    return verify(chains, arguments.after)


def read_chains(directory: Path, replica: str | None) -> list[Chain]:
    try:
        found = find_chains(directory)
    except OSError as error:
        raise SettingsError(f"{directory} cannot be read ({error.strerror}).") from None
    chains = [Chain(name, files) for name, files in found.items() if replica in (None, name)]
    if not chains:
        raise SettingsError(f"There are no usage records {of(replica)}in {directory}.")
    return chains


def of(replica: str | None) -> str:
    return f"of {replica!r} " if replica else ""


def verify(chains: list[Chain], after: str) -> int:
    for chain in chains:
        chain.start = after
        chain.read()
        state = "BROKEN" if chain.faults else "whole"
        head = chain.head
        print(f"{chain.replica}: {state}, {chain.num_records} records, last number {head.number}")
        print(f"  head {head.hash}, as the metric {head.fingerprint}")
        for fault in chain.faults:
            print(f"  {fault}")
        if chain.has_half_line:
            print("  a half line at the end is not counted")
    return 1 if any(chain.faults for chain in chains) else 0


def report(chains: list[Chain], arguments: argparse.Namespace) -> int:
    """Sums what is there; ends with 1, and says so, where a chain is broken."""
    summary = Summary(arguments.by)
    for chain in chains:
        for record in chain:
            if is_between(record, arguments.since, arguments.until):
                summary.add(record)
    print(summary.as_csv() if arguments.csv else summary.as_table(), end="")
    broken = [chain.replica for chain in chains if chain.faults]
    if broken:
        names = ", ".join(broken)
        print(f"warning: broken: {names}; see `python -m app usage verify`", file=sys.stderr)
    return 1 if broken else 0
