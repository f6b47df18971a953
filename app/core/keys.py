"""API keys: how one is made, kept and recognized. Only SHA-256 digests are ever stored.

A key is 32 random bytes, so a fast digest is enough: there is no dictionary to try.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from app.core.errors import SettingsError
from app.core.routes import Scope

PREFIX = "sk-w8a8-"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Key:
    """A key by its name and digest; `repr` shows no digest."""

    name: str
    digest: str
    scopes: frozenset[Scope]

    def __repr__(self) -> str:
        return f"Key({self.name!r}, {sorted(self.scopes)})"

    def allows(self, scope: Scope) -> bool:
        return scope in self.scopes


def create_secret() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def digest_of(secret: str) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def make_key(name: object, digest: object, scopes: Iterable[object]) -> Key:
    """A checked key. Raises SettingsError naming what is wrong with the entry."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise SettingsError(
            f"key name {str(name)[:40]!r}: use 1 to 63 letters, digits, '.', '_' or '-'."
        )
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise SettingsError(f"key {name!r}: sha256 has to be 64 lower-case hexadecimal digits.")
    return Key(name, digest, frozenset(parse_scope(name, scope) for scope in scopes))


def parse_scope(name: str, scope: object) -> Scope:
    if scope not in list(Scope):
        known = ", ".join(Scope)
        raise SettingsError(f"key {name!r}: scope {str(scope)[:40]!r} is none of {known}.")
    return Scope(str(scope))


class KeyRing:
    """The keys of the service, found by what a client presents."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self.keys = tuple(keys)
        self._by_head: dict[str, list[Key]] = {}
        for key in self.keys:
            self._by_head.setdefault(key.digest[:8], []).append(key)
        names = [key.name for key in self.keys]
        if twice := {name for name in names if names.count(name) > 1}:
            raise SettingsError(f"key name {min(twice)!r} stands there twice; names are unique.")

    def find(self, secret: str) -> Key | None:
        """The key of `secret`. The comparison takes the same time wherever digests differ."""
        digest = digest_of(secret)
        found = None
        for key in self._by_head.get(digest[:8], ()):
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found
