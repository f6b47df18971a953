"""The file of API keys: YAML, names and digests only, changed by writing beside and renaming."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from app.core.errors import SettingsError
from app.core.fair_queue import Priority
from app.core.key_limits import Limits
from app.core.keys import Key, KeyRing, RetiredDigest, check_name, make_key, make_retired
from app.core.tenants import Tenant, make_tenant

FIELDS = frozenset(
    {
        *("name", "sha256", "scopes", "tenant", "models", "expires", "retired", "limits"),
        *("priority", "timeout_ms"),
    }
)
TENANT_FIELDS = ("limits", "shares_cache", "weight")


def read_keys(path: Path) -> KeyRing:
    """The keys of the file. Raises SettingsError where it is missing, unreadable or wrong."""
    return parse_keys(read_bytes(path), path)


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise SettingsError(
            f"auth.keys_file: there is no file {path}; make a key with "
            f"`python -m app keys create NAME`."
        ) from None
    except OSError as error:
        raise SettingsError(
            f"auth.keys_file: {path} cannot be read ({type(error).__name__})."
        ) from None


def parse_keys(content: bytes, path: Path) -> KeyRing:
    """The keys in the content of `path`. Raises SettingsError naming what is wrong."""
    try:
        tree = yaml.safe_load(content.decode("utf-8"))
    except (UnicodeError, ValueError, yaml.YAMLError) as error:
        raise SettingsError(
            f"auth.keys_file: {path} cannot be read ({type(error).__name__})."
        ) from None
    if not isinstance(tree, dict) or not isinstance(tree.get("keys"), list):
        raise SettingsError(f"auth.keys_file: {path} has to hold a list under `keys`.")
    if unknown := set(tree) - {"keys", "tenants"}:
        raise SettingsError(
            f"auth.keys_file: {path} has an unknown section {str(min(unknown, key=str))[:40]!r}."
        )
    return KeyRing(
        (parse_entry(entry, path) for entry in tree["keys"]),
        parse_tenants(tree.get("tenants", {}), path),
    )


def parse_entry(entry: Any, path: Path) -> Key:
    if not isinstance(entry, dict):
        raise SettingsError(
            f"auth.keys_file: an entry of {path} is not a table with name and sha256."
        )
    if unknown := set(entry) - FIELDS:
        raise SettingsError(
            f"auth.keys_file: {path} has an unknown field {str(min(unknown, key=str))[:40]!r}."
        )
    for name in ("scopes", "models", "retired"):
        if not isinstance(entry.get(name, []), list):
            raise SettingsError(
                f"auth.keys_file: {name} of {str(entry.get('name'))[:40]!r} has to be a list."
            )
    return make_key(
        entry.get("name"),
        entry.get("sha256"),
        entry.get("scopes", ["infer"]),
        tenant=entry.get("tenant"),
        models=entry.get("models"),
        expires=entry.get("expires"),
        retired=[parse_retired(each, entry.get("name")) for each in entry.get("retired", [])],
        limits=entry.get("limits"),
        priority=entry.get("priority"),
        timeout_ms=entry.get("timeout_ms"),
    )


def parse_tenants(table: Any, path: Path) -> Iterator[Tenant]:
    if not isinstance(table, dict):
        raise SettingsError(f"auth.keys_file: tenants of {path} has to be a table by name.")
    for name, entry in table.items():
        checked = check_name(name, "tenant")
        if not isinstance(entry, dict) or set(entry) - set(TENANT_FIELDS):
            raise SettingsError(
                f"auth.keys_file: the tenant {checked!r} may have {', '.join(TENANT_FIELDS)}."
            )
        yield make_tenant(
            checked,
            entry.get("limits", {}),
            entry.get("shares_cache", False),
            entry.get("weight", 1),
        )


def parse_retired(entry: Any, name: object) -> RetiredDigest:
    label = f"key {str(name)[:40]!r}: retired"
    if not isinstance(entry, dict) or set(entry) != {"sha256", "valid_until"}:
        raise SettingsError(f"{label}: each entry has sha256 and valid_until.")
    return make_retired(entry["sha256"], entry["valid_until"], label)


def entry_of(key: Key) -> dict[str, Any]:
    """The entry of the file that `parse_entry` reads as `key`."""
    entry: dict[str, Any] = {"name": key.name, "sha256": key.digest}
    entry["scopes"] = sorted(map(str, key.scopes))
    if key.tenant != key.name:
        entry["tenant"] = key.tenant
    if key.models is not None:
        entry["models"] = sorted(key.models)
    if key.expires is not None:
        entry["expires"] = key.expires.isoformat()
    if key.priority is not Priority.NORMAL:
        entry["priority"] = str(key.priority)
    if key.timeout_ms is not None:
        entry["timeout_ms"] = key.timeout_ms
    if limits := table_of(key.limits):
        entry["limits"] = limits
    if key.retired:
        entry["retired"] = [
            {"sha256": old.digest, "valid_until": old.valid_until.isoformat()}
            for old in key.retired
        ]
    return entry


def entry_of_tenant(tenant: Tenant) -> dict[str, Any]:
    entry: dict[str, Any] = {"shares_cache": True} if tenant.shares_cache else {}
    if tenant.weight != 1:
        entry["weight"] = tenant.weight
    if limits := table_of(tenant.limits):
        entry["limits"] = limits
    return entry


def table_of(limits: Limits) -> dict[str, int]:
    return {name: value for name, value in asdict(limits).items() if value is not None}


def write_keys(path: Path, keys: Iterable[Key], tenants: Iterable[Tenant] = ()) -> None:
    """Replace the file in one step: a reader sees the old keys or the new ones."""
    tree: dict[str, Any] = {"keys": [entry_of(key) for key in keys]}
    if described := {tenant.name: entry_of_tenant(tenant) for tenant in tenants}:
        tree["tenants"] = described
    write_private(path, yaml.safe_dump(tree, sort_keys=False))


@dataclass
class Draft:
    """What the file holds, to be changed."""

    keys: list[Key]
    tenants: dict[str, Tenant]


@contextlib.contextmanager
def editing(path: Path) -> Iterator[Draft]:
    """The content of the file, empty if there is none, to be changed in place; written at the end.

    Editors wait for each other at a lock file beside it: the file itself is replaced by each edit.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ring = read_keys(path) if path.exists() else KeyRing(())
        draft = Draft(list(ring.keys), dict(ring.tenants))
        yield draft
        if draft != Draft(list(ring.keys), ring.tenants):
            write_keys(path, KeyRing(draft.keys).keys, draft.tenants.values())


def write_private(path: Path, text: str) -> None:
    """Write a file, whole or not at all, that only its owner can read, or who can read the one that
    it replaces: the service may run as another user than the one who edits."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            keep_readers(path, handle)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise


def keep_readers(path: Path, handle: int) -> None:
    """Owner and mode of `path`, where there is one and they can be given to another file."""
    with contextlib.suppress(FileNotFoundError, PermissionError):
        old = path.stat()
        os.fchown(handle, old.st_uid, old.st_gid)
        os.fchmod(handle, old.st_mode & 0o777)
