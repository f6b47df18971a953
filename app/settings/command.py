"""`python -m app keys`: make and list API keys."""

import argparse
from pathlib import Path

from app.core.errors import SettingsError
from app.core.keys import create_secret, digest_of, make_key
from app.core.routes import Scope
from app.settings.key_file import read_keys, write_keys

DEFAULT_FILE = Path(".state/keys.yaml")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    create = actions.add_parser("create", help="make a key and print it, once")
    create.add_argument("name")
    create.add_argument(
        "--scope",
        action="append",
        dest="scopes",
        choices=list(map(str, Scope)),
        help="what it may do; may be given several times (default: infer)",
    )
    listing = actions.add_parser("list", help="names and scopes")
    for action in (create, listing):
        action.add_argument(
            "--file", type=Path, default=DEFAULT_FILE, help=f"default: {DEFAULT_FILE}"
        )


def run(arguments: argparse.Namespace) -> int:
    if arguments.action == "create":
        return create_key(arguments.file, arguments.name, arguments.scopes or [Scope.INFER])
    for key in read_keys(arguments.file).keys:
        print(f"{key.name}\t{','.join(sorted(key.scopes))}")
    return 0


def create_key(path: Path, name: str, scopes: list[str]) -> int:
    keys = list(read_keys(path).keys) if path.exists() else []
    if any(key.name == name for key in keys):
        raise SettingsError(f"There is a key named {name!r} already in {path}.")
    secret = create_secret()
    write_keys(path, [*keys, make_key(name, digest_of(secret), scopes)])
    print(secret)
    return 0
