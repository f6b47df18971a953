"""Two gateways on one Redis, a device that only passes time, and clients that want too much."""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from app.core.keys import digest_of, make_key
from app.core.tenants import make_tenant
from app.settings.key_file import write_keys
from tests.integration.gateway_process import GatewayProcess, running_gateway

LEASE_S, TIMEOUT_S = 6, 1
LIMITS = {
    "concurrent_requests": 4,
    "requests_per_minute": 90,
    "tokens_per_minute": 2400,
    "tokens_per_day": 2800,
}
TENANTS = ("greedy", "eager")
DEVICE = json.dumps({"simulated_device": {"step_ms": 10}})
EXECUTOR = "app.engine.simulated.SimulatedExecutor"


def names_of(tenant: str) -> tuple[str, str]:
    """Its keys."""
    return (tenant, f"{tenant}-too")


@contextlib.contextmanager
def two_replicas(folder: Path, redis_url: str) -> Iterator[list[GatewayProcess]]:
    """Keys `greedy` and `greedy-too` of a tenant with LIMITS, `eager` and `eager-too` of another;
    `held`, of two requests at a time."""
    scopes = ["infer", "admin", "metrics"]
    keys = [
        make_key(name, digest_of(f"sk-{name}"), scopes, tenant=tenant)
        for tenant in TENANTS
        for name in names_of(tenant)
    ]
    keys.append(
        make_key("held", digest_of("sk-held"), ["infer"], limits={"concurrent_requests": 2})
    )
    tenants = [make_tenant(name, LIMITS) for name in TENANTS]
    with contextlib.ExitStack() as stack:
        replicas: list[GatewayProcess] = []
        for name in ("one", "two"):
            place = folder / name
            place.mkdir()
            settings = (
                f"limits.redis_url={redis_url}",
                f"limits.redis_lease_s={LEASE_S}",
                f"limits.redis_timeout_s={TIMEOUT_S}",
                "model.allow_unquantized=true",
                f"engine.extra_args=--distributed-executor-backend {EXECUTOR} "
                f"--additional-config '{DEVICE}'",
            )
            replicas.append(stack.enter_context(running_gateway(place, *settings)))
            write_keys(place / "keys.yaml", keys, tenants)  # taken over while the model loads
        for replica in replicas:
            replica.wait_ready()
        yield replicas


@dataclass
class Asked:
    """A request as its client saw it; `num_tokens` are those it was surely charged for."""

    sent_s: float = field(default_factory=time.monotonic)
    status: int = 0
    said: str = ""
    first_s: float = 0.0
    last_s: float = 0.0
    num_tokens: int = 0


async def ask(
    client: httpx.AsyncClient,
    url: str,
    key: str,
    max_tokens: int,
    most_events: int = 1 << 20,
    asked: Asked | None = None,
) -> Asked:
    """Stream a completion; leave after `most_events` of its events. `asked` is kept up to date."""
    asked = asked or Asked()
    body = {"model": "bundled", "prompt": "What is 1 + 1?", "stream": True, "ignore_eos": True}
    body |= {"max_tokens": max_tokens, "stream_options": {"include_usage": True}}
    headers = {"authorization": f"Bearer sk-{key}"}
    async with client.stream("POST", f"{url}/v1/completions", json=body, headers=headers) as answer:
        asked.status = answer.status_code
        if answer.status_code != 200:
            asked.said = (await answer.aread()).decode()
            return asked
        num_events = 0
        async for line in answer.aiter_lines():
            if not line.startswith("data: {"):
                continue
            note(asked, json.loads(line.removeprefix("data: ")))
            num_events += 1
            if num_events >= most_events:
                break
    return asked


def note(asked: Asked, event: dict[str, Any]) -> None:
    asked.last_s = time.monotonic()
    asked.first_s = asked.first_s or asked.last_s
    if event.get("usage"):
        asked.num_tokens = event["usage"]["total_tokens"]
    elif event.get("choices"):
        asked.num_tokens += 1


@dataclass
class Crowd:
    """Clients that ask one replica or the other, over and over; some leave in the middle."""

    urls: Sequence[str]
    tenant: str
    num_clients: int = 12
    asked: list[Asked] = field(default_factory=list)

    async def press(self, is_enough: asyncio.Event) -> None:
        limits = httpx.Limits(max_connections=2 * self.num_clients)
        async with httpx.AsyncClient(limits=limits, timeout=60) as client:
            clients = [self.keep_asking(client, n, is_enough) for n in range(self.num_clients)]
            await asyncio.gather(*clients)

    async def keep_asking(
        self, client: httpx.AsyncClient, number: int, is_enough: asyncio.Event
    ) -> None:
        chance = random.Random(number)
        while not is_enough.is_set():
            key = chance.choice(names_of(self.tenant))
            leaves = chance.random() < 0.2
            self.asked.append(asked := Asked())
            with contextlib.suppress(httpx.TransportError):  # of a replica that is killed
                await ask(
                    client,
                    chance.choice(self.urls),
                    key,
                    chance.randint(5, 60),
                    chance.randint(1, 5) if leaves else 1 << 20,
                    asked,
                )
            await asyncio.sleep(chance.uniform(0, 0.1))

    def answered(self, since_s: float = 0) -> list[Asked]:
        return [each for each in self.asked if each.first_s and each.sent_s >= since_s]

    def refused(self, limit: str, since_s: float = 0) -> int:
        return sum(limit in each.said and each.sent_s >= since_s for each in self.asked)

    def most_at_once(self) -> int:
        """Of those that were surely running: between their first and last event."""
        changes = [(each.first_s, 1) for each in self.answered()]
        changes += [(each.last_s, -1) for each in self.answered()]
        number = most = 0
        for _, change in sorted(changes):
            number += change
            most = max(most, number)
        return most

    def check_limits(self) -> None:
        """Also that the test is worth something: what the limits let through was asked for."""
        assert self.most_at_once() <= LIMITS["concurrent_requests"]
        used = sum(each.num_tokens for each in self.answered())
        assert LIMITS["tokens_per_minute"] / 2 < used <= LIMITS["tokens_per_day"]
        self.check_rates()

    def check_rates(self) -> None:
        """In every stretch of time, by what was surely admitted and used within it."""
        answered = sorted(self.answered(), key=lambda each: each.first_s)
        for first in answered:
            tokens = requests = 0
            for each in answered:
                if each.sent_s < first.sent_s:
                    continue
                tokens, requests = tokens + each.num_tokens, requests + 1
                minutes = 1 + (each.first_s - first.sent_s) / 60
                assert tokens <= LIMITS["tokens_per_minute"] * minutes
                assert requests <= LIMITS["requests_per_minute"] * minutes
