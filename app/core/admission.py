"""A request's way past the limits: what it may ask for, its reservation, and giving it back."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Protocol

from app.core.deadlines import DeadlineExceeded
from app.core.errors import InvalidRequest, RequestError, Unavailable
from app.core.fair_queue import FairQueue, Place, QueueObserver
from app.core.key_limits import Owner
from app.core.keys import Key
from app.core.quota import Grant, QuotaExceeded, Standing, refuse_what_never_fits
from app.core.tenants import Tenant


class QuotaStore(Protocol):
    """Where the counters are; app.core.quota.QuotaBook says what each call promises.

    A store may have to ask elsewhere: a call that is cancelled then leaves nothing reserved, and
    Unavailable says that it could not be asked. `settle` and `standings` ask nobody, nor wait.
    """

    async def reserve(self, owners: tuple[Owner, ...], tokens: int) -> Grant: ...
    async def extend(self, grant: Grant, tokens: int) -> None: ...
    async def start(self, grant: Grant) -> None: ...
    async def settle(self, grant: Grant, used: int) -> None: ...
    def standings(self, owners: Sequence[Owner]) -> Mapping[str, Standing]: ...


class AdmissionObserver(QueueObserver, Protocol):
    """What the metrics hear."""

    def refused(self, tenant: str, reason: str) -> None: ...
    def reserved(self, tenant: str, num_requests: int, num_tokens: int) -> None:
        """Changes of what the tenant's running requests hold."""

    def first_token(self, tenant: str, after_s: float) -> None: ...


@dataclass(frozen=True)
class Admission:
    """Opens a ticket for each request. `default_max_tokens` bounds what names no length,
    `max_timeout_s` what a deadline may name."""

    store: QuotaStore
    queue: FairQueue
    default_max_tokens: int
    observer: AdmissionObserver
    max_timeout_s: float = 3600.0

    def open(self, key: Key, tenant: Tenant, timeout_s: float | None = None) -> "Ticket":
        """`timeout_s` from now on the request is late; None: never."""
        return Ticket(self, key, tenant, timeout_s)


class Ticket:
    """One HTTP request. It may start several prompts; it is one request with all their tokens.

    `refusal` is the error it was refused with, for answers that vLLM words itself; `waited_s` is
    how long its prompts have waited for places in the engine; `first_token_s` is when the engine
    gave the first token, from the opening on.
    """

    def __init__(
        self, admission: Admission, key: Key, tenant: Tenant, timeout_s: float | None
    ) -> None:
        self.admission, self.key, self.tenant = admission, key, tenant
        self.timeout_s, self.opened_s = timeout_s, admission.queue.clock()
        self.owners: tuple[Owner, ...] = (key.owner, tenant.owner)
        self.refusal: RequestError | None = None
        self.waited_s = 0.0
        self.first_token_s: float | None = None
        self._grant: Grant | None = None
        self._turn = asyncio.Lock()
        self._is_closed = self._is_counted = False
        self._foreseen_tokens = self._entered_tokens = 0
        self._prompt_tokens = 0
        self._places: list[Place] = []

    @property
    def is_decided(self) -> bool:
        """Whether it was let in or refused."""
        return self.refusal is not None or self._prompt_tokens > 0

    @property
    def is_entering(self) -> bool:
        """Whether the store is being asked for one of its prompts."""
        return self._turn.locked()

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

    def foresee(self, tokens: int) -> None:
        """One more of its prompts will `enter` and need so many. The first to enter reserves for
        all, so that they get in together or not at all. Raises InvalidRequest where they never
        could."""
        self._foreseen_tokens += tokens
        try:
            refuse_what_never_fits(self.owners, self._foreseen_tokens)
        except InvalidRequest as error:
            self.refusal = error
            self.admission.observer.refused(self.tenant.name, error.code)
            raise

    async def enter(self, num_prompt: int, num_completion: int, num_sequences: int) -> Place:
        """Reserve for a prompt and all its completions, and wait until the engine may have it.
        Give the place to `leave` when the engine has done with it.

        Raises a RequestError, which `refusal` then is.
        """
        try:
            grant = await self._reserve(num_prompt + num_completion)
            place = await self._queue(num_prompt, num_sequences)
            await self._start(grant)
        except RequestError as error:
            if self._is_closed or error is self.refusal:
                raise
            self.refusal = error
            limit = error.limit if isinstance(error, QuotaExceeded) else error.code
            self.admission.observer.refused(self.tenant.name, limit)
            raise
        self._prompt_tokens += num_prompt
        return place

    async def _reserve(self, tokens: int) -> Grant:
        store, observer = self.admission.store, self.admission.observer
        async with self._turn:
            self._refuse_when_closed()
            if self.refusal is not None:
                raise self.refusal
            self._entered_tokens += tokens
            grant, wanted = self._grant, max(self._foreseen_tokens, self._entered_tokens)
            self._is_counted = True
            if grant is None:
                grant = self._grant = await store.reserve(self.owners, wanted)
                observer.reserved(self.tenant.name, 1, wanted)
            elif (more := wanted - grant.tokens) > 0:
                await store.extend(grant, more)
                observer.reserved(self.tenant.name, 0, more)
            return grant

    async def _queue(self, num_prompt: int, num_sequences: int) -> Place:
        queue, tenant = self.admission.queue, self.tenant
        place = await queue.enter(
            tenant.name, tenant.weight, self.key.priority, num_sequences, num_prompt, self.left_s
        )
        self.waited_s += place.waited_s
        self._places.append(place)
        if self._is_closed:
            queue.leave(place)
            self._refuse_when_closed()
        return place

    async def _start(self, grant: Grant) -> None:
        """The store knows that the engine has it, before the engine has it."""
        await self.admission.store.start(grant)
        self._refuse_when_closed()

    @property
    def left_s(self) -> float:
        """Until the deadline."""
        if self.timeout_s is None:
            return inf
        return self.opened_s + self.timeout_s - self.admission.queue.clock()

    def note_first_token(self, place: Place) -> None:
        """The engine has given the first token for what has the place."""
        self.admission.queue.note_first_token(place)
        if self.first_token_s is None:
            self.first_token_s = self.admission.queue.clock() - self.opened_s
            self.admission.observer.first_token(self.tenant.name, self.first_token_s)

    def expire(self) -> RequestError:
        """The deadline has passed: the error to answer with. It is our load that kept it waiting; a
        request that was being worked on has spent its tokens."""
        if self._grant is not None and not self._prompt_tokens:
            error: RequestError = Unavailable(
                f"No place in the engine became free within the {self.timeout_s:g} s that the "
                "request had.",
                code=DeadlineExceeded.code,
                retry_after_s=self.admission.queue.retry_after_s(
                    self.tenant.name, self.key.priority
                ),
            )
        else:
            error = DeadlineExceeded(
                f"The request was not done within the {self.timeout_s:g} s that it had, and was "
                "stopped."
            )
        if self.refusal is None:
            self.refusal = error
            self.admission.observer.refused(self.tenant.name, error.code)
        return self.refusal

    def _refuse_when_closed(self) -> None:
        if self._is_closed:
            raise Unavailable("The request is over.", code="stopped")

    def leave(self, place: Place) -> None:
        """The engine has done with it."""
        self.admission.queue.leave(place)

    async def close(self, completion_tokens: int) -> None:
        """The request is over: the prompts that the engine got and `completion_tokens` are used,
        the rest comes back. The first call counts."""
        self._is_closed = True
        for place in self._places:
            self.leave(place)
        async with self._turn:
            grant, self._grant = self._grant, None
            if grant is None:
                return
            self.admission.observer.reserved(self.tenant.name, -1, -grant.tokens)
            await self.admission.store.settle(grant, self._prompt_tokens + completion_tokens)

    @property
    def headers(self) -> dict[str, str]:
        """OpenAI's x-ratelimit headers, as of now, for the limits that there are; none where the
        request never got as far as to be counted."""
        found: dict[str, str] = {}
        if not self._is_counted:
            return found
        for name, standing in self.admission.store.standings(self.owners).items():
            found[f"x-ratelimit-limit-{name}"] = str(standing.limit)
            found[f"x-ratelimit-remaining-{name}"] = str(standing.remaining)
            found[f"x-ratelimit-reset-{name}"] = as_duration(standing.reset_s)
        return found


def as_duration(seconds: float) -> str:
    """As OpenAI writes one: 1m30s, 2.5s, 20ms."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    if seconds < 60:
        return f"{seconds:.3g}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest}s"
