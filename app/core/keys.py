"""API keys: how one is made, kept and recognized. Only SHA-256 digests are ever stored.

A key is 32 random bytes, so a fast digest is enough: there is no dictionary to try.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

from app.core.deadlines import MOST_TIMEOUT_MS
from app.core.errors import NotFound, SettingsError
from app.core.fair_queue import Priority
from app.core.key_limits import NO_LIMITS, Limits, Owner, make_limits
from app.core.routes import Scope
from app.core.tenants import Tenant

PREFIX = "sk-w8a8-"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MAX_MODEL_NAME = 256


@dataclass(frozen=True)
class RetiredDigest:
    """What a key was before it was rotated; still taken until `valid_until`."""

    digest: str
    valid_until: datetime


@dataclass(frozen=True)
class Key:
    """A key by its name and digest; `repr` shows no digest.

    `tenant` is who uses it, `models` what it may ask for (None: every model), `expires` when it
    ends, `limits` what it may use, `priority` its band in the queue, `timeout_ms` how long its
    requests may take that do not say so themselves.
    """

    name: str
    digest: str
    scopes: frozenset[Scope]
    tenant: str
    models: frozenset[str] | None = None
    expires: datetime | None = None
    retired: tuple[RetiredDigest, ...] = ()
    limits: Limits = NO_LIMITS
    priority: Priority = Priority.NORMAL
    timeout_ms: int | None = None

    def __repr__(self) -> str:
        return f"Key({self.name!r}, {sorted(self.scopes)})"

    @cached_property
    def owner(self) -> Owner:
        return Owner(f"key:{self.name}", f"The key {self.name}", self.limits)

    def allows(self, scope: Scope) -> bool:
        return scope in self.scopes

    def allows_model(self, model: object) -> bool:
        return self.models is None or model in self.models

    def check_model(self, body: Mapping[str, object]) -> None:
        """Raises NotFound unless `body` names a model that the key may ask for; one that may ask
        for every model need not name any."""
        if not self.allows_model(body.get("model")):
            raise NotFound(
                f"The model {str(body.get('model'))[:80]!r} is not there for this key.",
                code="model_not_found",
                param="model",
            )

    def is_expired(self, now: datetime) -> bool:
        return self.expires is not None and now >= self.expires


def create_secret() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def digest_of(secret: str) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def make_key(
    name: object,
    digest: object,
    scopes: Iterable[object],
    *,
    tenant: object = None,
    models: Iterable[object] | None = None,
    expires: object = None,
    retired: Iterable[RetiredDigest] = (),
    limits: object = None,
    priority: object = None,
    timeout_ms: object = None,
) -> Key:
    """A checked key; without a tenant it is its own. Raises SettingsError naming what is wrong."""
    checked = check_name(name, "key")
    label = f"key {checked!r}"
    return Key(
        checked,
        check_digest(digest, label),
        frozenset(parse_scope(label, scope) for scope in scopes),
        checked if tenant is None else check_name(tenant, f"{label}: tenant"),
        None if models is None else frozenset(check_model(label, model) for model in models),
        None if expires is None else parse_time(expires, f"{label}: expires"),
        tuple(retired),
        make_limits({} if limits is None else limits, label),
        Priority.NORMAL if priority is None else parse_priority(label, priority),
        None if timeout_ms is None else check_timeout(label, timeout_ms),
    )


def make_retired(digest: object, valid_until: object, label: str) -> RetiredDigest:
    return RetiredDigest(
        check_digest(digest, label), parse_time(valid_until, f"{label}: valid_until")
    )


def check_name(name: object, label: str) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise SettingsError(
            f"{label} name {str(name)[:40]!r}: use 1 to 63 letters, digits, '.', '_' or '-'."
        )
    return name


def check_digest(digest: object, label: str) -> str:
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise SettingsError(f"{label}: sha256 has to be 64 lower-case hexadecimal digits.")
    return digest


def parse_scope(label: str, scope: object) -> Scope:
    if scope not in list(Scope):
        known = ", ".join(Scope)
        raise SettingsError(f"{label}: scope {str(scope)[:40]!r} is none of {known}.")
    return Scope(str(scope))


def check_timeout(label: str, timeout_ms: object) -> int:
    is_flag = isinstance(timeout_ms, bool)
    if isinstance(timeout_ms, int) and not is_flag and 1 <= timeout_ms <= MOST_TIMEOUT_MS:
        return timeout_ms
    raise SettingsError(
        f"{label}: timeout_ms has to be a whole number of milliseconds from 1 to {MOST_TIMEOUT_MS}."
    )


def parse_priority(label: str, priority: object) -> Priority:
    if priority not in list(Priority):
        known = ", ".join(Priority)
        raise SettingsError(f"{label}: priority {str(priority)[:40]!r} is none of {known}.")
    return Priority(str(priority))


def check_model(label: str, model: object) -> str:
    if not isinstance(model, str) or not 0 < len(model) <= _MAX_MODEL_NAME:
        raise SettingsError(f"{label}: model {str(model)[:40]!r} is not a model's name.")
    return model


def parse_time(value: object, label: str) -> datetime:
    """A moment with its zone, from ISO 8601 or as YAML has read it."""
    moment: object = value
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise SettingsError(
            f"{label} {str(value)[:40]!r}: write a time with its zone, as 2027-01-31T00:00:00Z."
        )
    return moment.astimezone(UTC)


class KeyRing:
    """The keys of the service, found by what a client presents, and their tenants; replaced as a
    whole."""

    def __init__(self, keys: Iterable[Key], tenants: Iterable[Tenant] = ()) -> None:
        """Raises SettingsError for a name that stands there twice."""
        self.keys = tuple(keys)
        self.tenants = {tenant.name: tenant for tenant in tenants}
        names = [key.name for key in self.keys]
        if twice := {name for name in names if names.count(name) > 1}:
            raise SettingsError(f"key name {min(twice)!r} stands there twice; names are unique.")
        self._by_head = index(self.keys)
        self._undescribed: dict[str, Tenant] = {}

    def adopt(self, other: "KeyRing") -> None:
        """Take over the keys and tenants of `other`; on the event loop, where the lookups are."""
        self._by_head, self.keys = other._by_head, other.keys
        self.tenants, self._undescribed = other.tenants, {}

    def tenant_of(self, key: Key) -> Tenant:
        """A tenant that the file does not describe has no limits."""
        tenant = self.tenants.get(key.tenant) or self._undescribed.get(key.tenant)
        if tenant is None:
            tenant = self._undescribed[key.tenant] = Tenant(key.tenant)
        return tenant

    def find(self, secret: str, now: datetime | None = None) -> Key | None:
        """The key of `secret`, an expired one too. The comparison takes the same time wherever
        digests differ."""
        digest = digest_of(secret)
        now = now or datetime.now(UTC)
        found = None
        for candidate, key, valid_until in self._by_head.get(digest[:8], ()):
            is_same = hmac.compare_digest(candidate, digest)
            if is_same and (valid_until is None or now < valid_until):
                found = key
        return found


Entry = tuple[str, Key, datetime | None]


def index(keys: Iterable[Key]) -> dict[str, list[Entry]]:
    """Digest, key and end of the digest's validity, by the digest's first characters."""
    entries: dict[str, list[Entry]] = {}
    for key in keys:
        entries.setdefault(key.digest[:8], []).append((key.digest, key, None))
        for old in key.retired:
            entries.setdefault(old.digest[:8], []).append((old.digest, key, old.valid_until))
    return entries
