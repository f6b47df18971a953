"""`python -m app keys`: make, list, rotate, revoke and limit API keys."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from app.core.errors import SettingsError
from app.core.fair_queue import Priority
from app.core.key_limits import LIMIT_NAMES, Limits
from app.core.keys import Key, RetiredDigest, check_name, create_secret, digest_of, make_key
from app.core.routes import Scope
from app.core.tenants import Tenant, make_tenant
from app.settings.durations import parse_duration
from app.settings.key_file import editing, read_keys, table_of

DEFAULT_FILE = Path(".state/keys.yaml")
DEFAULT_GRACE = timedelta(days=1)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    add_create(actions.add_parser("create", help="make a key and print it, once"))
    actions.add_parser("list", help="every key and every tenant that the file describes")
    rotate = actions.add_parser("rotate", help="give a key a new secret and print it, once")
    rotate.add_argument("name")
    rotate.add_argument(
        "--grace",
        type=parse_duration,
        default=DEFAULT_GRACE,
        metavar="12h",
        help="how long the old secret still works (default: 1d)",
    )
    revoke = actions.add_parser("revoke", help="end a key now, with all its secrets")
    revoke.add_argument("name")
    limit = actions.add_parser(
        "limit", help="set limits of a key, or of a tenant with all its keys"
    )
    limit.add_argument("name")
    limit.add_argument(
        "limits",
        type=parse_limit,
        nargs="+",
        metavar="LIMIT=NUMBER",
        help=f"of {', '.join(LIMIT_NAMES)}; LIMIT=none takes it away",
    )
    limit.add_argument("--tenant", action="store_true", help="NAME is a tenant")
    weight = actions.add_parser("weight", help="set a tenant's share of the engine")
    weight.add_argument("name")
    weight.add_argument("weight", type=float, help="against 1 of a tenant that has none")
    for action in actions.choices.values():
        action.add_argument(
            "--file", type=Path, default=DEFAULT_FILE, help=f"default: {DEFAULT_FILE}"
        )


def add_create(create: argparse.ArgumentParser) -> None:
    create.add_argument("name")
    create.add_argument(
        "--scope",
        action="append",
        dest="scopes",
        choices=list(map(str, Scope)),
        help="what it may do; may be given several times (default: infer)",
    )
    create.add_argument("--tenant", help="who uses it (default: the key's name)")
    create.add_argument(
        "--model",
        action="append",
        dest="models",
        help="what it may ask for; may be given several times (default: every model)",
    )
    create.add_argument(
        "--priority",
        choices=list(map(str, Priority)),
        help="its band where requests wait (default: normal)",
    )
    create.add_argument(
        "--timeout-ms",
        type=int,
        metavar="MS",
        help="how long a request may take that does not say so itself (default: no bound)",
    )
    create.add_argument(
        "--expires-in", type=parse_duration, metavar="90d", help="default: it does not expire"
    )


def run(arguments: argparse.Namespace) -> int:
    return ACTIONS[arguments.action](arguments)


def create_key(arguments: argparse.Namespace) -> int:
    secret = create_secret()
    lifetime: timedelta | None = arguments.expires_in
    key = make_key(
        arguments.name,
        digest_of(secret),
        arguments.scopes or [Scope.INFER],
        tenant=arguments.tenant,
        models=arguments.models,
        priority=arguments.priority,
        timeout_ms=arguments.timeout_ms,
        expires=None if lifetime is None else now() + lifetime,
    )
    with editing(arguments.file) as draft:
        if any(other.name == key.name for other in draft.keys):
            raise SettingsError(f"There is a key named {key.name!r} already in {arguments.file}.")
        draft.keys.append(key)
    print(secret)
    return 0


def list_keys(arguments: argparse.Namespace) -> int:
    ring = read_keys(arguments.file)
    print("name\ttenant\tscopes\tmodels\texpires\tpriority\ttimeout_ms\tlimits")
    for key in ring.keys:
        scopes = ",".join(sorted(key.scopes)) or "-"
        models = "*" if key.models is None else ",".join(sorted(key.models)) or "-"
        ends = "never" if key.expires is None else key.expires.isoformat()
        print(key.name, key.tenant, scopes, models, ends, sep="\t", end="\t")
        print(key.priority, key.timeout_ms or "-", shown(key.limits), sep="\t")
    if ring.tenants:
        print("\ntenant\tweight\tshares_cache\tlimits")
    for tenant in ring.tenants.values():
        shares_cache = "yes" if tenant.shares_cache else "no"
        print(tenant.name, f"{tenant.weight:g}", shares_cache, shown(tenant.limits), sep="\t")
    return 0


def shown(limits: Limits) -> str:
    """As `limit` takes them; - for none."""
    return " ".join(f"{name}={most}" for name, most in table_of(limits).items()) or "-"


def rotate_key(arguments: argparse.Namespace) -> int:
    """The key keeps its name and everything else; its old secret ends after the grace time."""
    secret = create_secret()
    moment = now()
    with editing(arguments.file) as draft:
        place = place_of(draft.keys, arguments)
        key = draft.keys[place]
        retired = [old for old in key.retired if old.valid_until > moment]
        if arguments.grace:
            retired.append(RetiredDigest(key.digest, moment + arguments.grace))
        draft.keys[place] = replace(key, digest=digest_of(secret), retired=tuple(retired))
    print(secret)
    return 0


def revoke_key(arguments: argparse.Namespace) -> int:
    with editing(arguments.file) as draft:
        del draft.keys[place_of(draft.keys, arguments)]
    return 0


def set_limits(arguments: argparse.Namespace) -> int:
    changes = dict(arguments.limits)
    with editing(arguments.file) as draft:
        if arguments.tenant:
            tenant = draft.tenants.get(arguments.name) or Tenant(
                check_name(arguments.name, "tenant")
            )
            limits = replace(tenant.limits, **changes)
            draft.tenants[tenant.name] = replace(tenant, limits=limits)
        else:
            place = place_of(draft.keys, arguments)
            key = draft.keys[place]
            draft.keys[place] = replace(key, limits=replace(key.limits, **changes))
    return 0


def set_weight(arguments: argparse.Namespace) -> int:
    name = check_name(arguments.name, "tenant")
    with editing(arguments.file) as draft:
        tenant = draft.tenants.get(name) or Tenant(name)
        weight = make_tenant(name, {}, weight=arguments.weight).weight
        draft.tenants[name] = replace(tenant, weight=weight)
    return 0


def parse_limit(text: str) -> tuple[str, int | None]:
    """For argparse: LIMIT=NUMBER or LIMIT=none."""
    name, _, value = text.partition("=")
    if name not in LIMIT_NAMES:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(LIMIT_NAMES)}")
    if value == "none":
        return name, None
    if not value.isdecimal() or int(value) < 1:
        raise argparse.ArgumentTypeError(f"{name}: a whole number from 1, or none")
    return name, int(value)


def place_of(keys: list[Key], arguments: argparse.Namespace) -> int:
    for place, key in enumerate(keys):
        if key.name == arguments.name:
            return place
    raise SettingsError(f"There is no key named {arguments.name!r} in {arguments.file}.")


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


ACTIONS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "create": create_key,
    "list": list_keys,
    "rotate": rotate_key,
    "revoke": revoke_key,
    "limit": set_limits,
    "weight": set_weight,
}
