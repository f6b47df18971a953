"""A request's way past the limits: what it may ask for, its reservation, and giving it back."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.core.errors import InvalidRequest, RequestError, Unavailable
from app.core.keys import Key
from app.core.quota import Grant, Owner, QuotaExceeded, Standing
from app.core.tenants import Tenant


class QuotaStore(Protocol):
    """Where the counters are; app.core.quota.QuotaBook says what each call promises."""

    async def reserve(self, owners: tuple[Owner, ...], tokens: int) -> Grant: ...
    async def extend(self, grant: Grant, tokens: int) -> None: ...
    async def start(self, grant: Grant) -> None: ...
    async def settle(self, grant: Grant, used: int) -> None: ...
    def standings(self, owners: Sequence[Owner]) -> Mapping[str, Standing]: ...


class AdmissionObserver(Protocol):
    """What the metrics hear."""

    def refused(self, tenant: str, reason: str) -> None: ...
    def reserved(self, tenant: str, num_requests: int, num_tokens: int) -> None:
        """Changes of what the tenant's running requests hold."""


@dataclass(frozen=True)
class Admission:
    """Opens a ticket for each request. `default_max_tokens` bounds what names no length."""

    store: QuotaStore
    default_max_tokens: int
    observer: AdmissionObserver

    def open(self, key: Key, tenant: Tenant) -> "Ticket":
        return Ticket(self, key, tenant)


class Ticket:
    """One HTTP request. It may start several prompts; it is one request with all their tokens.

    `refusal` is the error it was refused with, for answers that vLLM words itself.
    """

    def __init__(self, admission: Admission, key: Key, tenant: Tenant) -> None:
        self.admission, self.key, self.tenant = admission, key, tenant
        self.owners = (
            Owner(f"key:{key.name}", f"The key {key.name}", key.limits),
            Owner(f"tenant:{tenant.name}", f"The tenant {tenant.name}", tenant.limits),
        )
        self.refusal: RequestError | None = None
        self.standings: Mapping[str, Standing] = {}
        self._grant: Grant | None = None
        self._turn = asyncio.Lock()
        self._is_closed = False
        self._prompt_tokens = 0

    @property
    def is_decided(self) -> bool:
        """Whether it was let in or refused."""
        return self.refusal is not None or self._prompt_tokens > 0

    def bound(self, asked: int | None, possible: int, num_sequences: int) -> int:
        """The completion length to go on with, of `possible` ones. Raises InvalidRequest where
        more is asked for than one request may."""
        for owner in self.owners:
            self._refuse_beyond(owner, "max_tokens", asked or 0)
            self._refuse_beyond(owner, "max_n", num_sequences)
        if asked is not None:
            return possible
        most = [longest for owner in self.owners if (longest := owner.limits.max_tokens)]
        return min(possible, self.admission.default_max_tokens, *most)

    def _refuse_beyond(self, owner: Owner, limit: str, asked: int) -> None:
        most: int | None = getattr(owner.limits, limit)
        if most is not None and asked > most:
            self.refusal = InvalidRequest(
                f"The request asks for {asked}; the {limit} of {owner.title} is {most}.",
                code="request_exceeds_limit",
                param="n" if limit == "max_n" else limit,
            )
            self.admission.observer.refused(self.tenant.name, limit)
            raise self.refusal

    async def enter(self, prompt_tokens: int, completion_tokens: int) -> None:
        """Reserve for a prompt and all its completions; returns when the engine may have it.

        Raises a RequestError, which `refusal` then is.
        """
        async with self._turn:
            if self._is_closed:
                raise Unavailable("The request is over.", code="stopped")
            try:
                await self._reserve(prompt_tokens + completion_tokens)
            except RequestError as error:
                self.refusal = error
                limit = error.limit if isinstance(error, QuotaExceeded) else error.code
                self.admission.observer.refused(self.tenant.name, limit)
                raise
            finally:
                self.standings = self.admission.store.standings(self.owners)
        self._prompt_tokens += prompt_tokens

    async def _reserve(self, tokens: int) -> None:
        store, observer = self.admission.store, self.admission.observer
        if self._grant is None:
            self._grant = await store.reserve(self.owners, tokens)
            observer.reserved(self.tenant.name, 1, tokens)
            await store.start(self._grant)
        else:
            await store.extend(self._grant, tokens)
            observer.reserved(self.tenant.name, 0, tokens)

    async def close(self, completion_tokens: int) -> None:
        """The request is over: the prompts that the engine got and `completion_tokens` are used,
        the rest comes back. The first call counts."""
        async with self._turn:
            self._is_closed = True
            grant, self._grant = self._grant, None
            if grant is None:
                return
            self.admission.observer.reserved(self.tenant.name, -1, -grant.tokens)
            await self.admission.store.settle(grant, self._prompt_tokens + completion_tokens)

    @property
    def headers(self) -> dict[str, str]:
        """OpenAI's x-ratelimit headers, for the limits that there are."""
        found: dict[str, str] = {}
        for name, standing in self.standings.items():
            found[f"x-ratelimit-limit-{name}"] = str(standing.limit)
            found[f"x-ratelimit-remaining-{name}"] = str(standing.remaining)
            found[f"x-ratelimit-reset-{name}"] = as_duration(standing.reset_s)
        return found


def as_duration(seconds: float) -> str:
    """As OpenAI writes one: 1m30s, 2.5s, 20ms."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{minutes:.0f}m{rest:.0f}s" if minutes else f"{rest:.3g}s"


class SilentObserver:
    """For when nobody listens."""

    def refused(self, tenant: str, reason: str) -> None: ...
    def reserved(self, tenant: str, num_requests: int, num_tokens: int) -> None: ...
