"""Where Redis is, by the setting. What may hold a password is never shown."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio.connection import AbstractConnection, Connection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from app.core.errors import SettingsError


@dataclass(frozen=True)
class RedisAddress:
    """A checked address; `shown` has neither user nor password."""

    shown: str
    _kind: type[AbstractConnection] = field(repr=False)
    _options: Mapping[str, Any] = field(repr=False)

    def connection(self) -> AbstractConnection:
        """A new one, not connected yet. It waits for ever and tries once: the caller knows when to
        give up."""
        return self._kind(
            **{"client_name": "w8a8-gateway", **self._options},
            socket_timeout=None,
            socket_connect_timeout=None,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
            protocol=2,
        )


def parse_address(url: str) -> RedisAddress:
    """Raises SettingsError for what is no address of a Redis."""
    try:
        parts = urlsplit(url)
        options: dict[str, Any] = dict(parse_url(url))
        kind = options.pop("connection_class", Connection)
        is_socket = parts.scheme == "unix"
        place = options["path"] if is_socket else f"{parts.hostname}:{parts.port or 6379}"
        address = RedisAddress(f"{place}/{options.get('db', 0)}", kind, options)
        address.connection()  # refuses options that there are none of
        if not (is_socket or (parts.hostname and (parts.path.strip("/") or "0").isdigit())):
            raise ValueError
    except (ValueError, KeyError, TypeError, RedisError, OSError):  # whose words quote the address
        raise SettingsError(
            "limits.redis_url cannot be used: write it as redis://USER:PASSWORD@HOST:PORT/NUMBER, "
            "rediss:// for TLS, or unix://PATH; special characters in it as %XX."
        ) from None
    return address
