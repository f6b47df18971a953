"""What a Redis is like: whether it answers, and what it would forget."""

import asyncio
from collections.abc import Mapping
from time import monotonic

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from app.shared_limits.courier import PROBE_INTERVAL_S, Courier, talk


async def connect_patiently(courier: Courier, patience_s: float) -> AbstractConnection:
    """It may be starting too. Raises RedisError, OSError or TimeoutError."""
    give_up_s = monotonic() + patience_s
    while True:
        try:
            return await courier.connect()
        except (AuthenticationError, NoPermissionError):
            raise
        except (RedisError, OSError, TimeoutError):
            if monotonic() >= give_up_s:
                raise
        await asyncio.sleep(PROBE_INTERVAL_S)


async def read_dangers(connection: AbstractConnection) -> list[str]:
    """Sentences, where it says that it would lose counters. Some services do not tell."""
    replies = await talk(connection, [("INFO", "persistence"), ("INFO", "memory")])
    if any(isinstance(reply, ResponseError) for reply in replies):
        return []
    return dangers_of(parse_info("\n".join(replies)))


def parse_info(text: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {name: value.strip() for name, _, value in pairs}


def dangers_of(info: Mapping[str, str]) -> list[str]:
    found: list[str] = []
    if info.get("aof_enabled") == "0":
        found.append("Redis keeps no append-only file: with a restart it forgets what was used")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction" and info.get("maxmemory") != "0":
        found.append(f"Redis forgets counters when its memory is full: its policy is {policy}")
    return found
