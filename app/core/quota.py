"""Who has used how much: reservations against limits, in this process's memory.

A request is admitted against all its owners (its key and its tenant) or against none. Every
reservation is settled once; then the unused part is back, and no counter remembers it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, inf, isinf
from time import time

from app.core.errors import InvalidRequest, RequestError
from app.core.key_limits import Bucket, Limits, Owner

DAY_S = 86_400
# How much of a new duration goes into the mean that Retry-After is estimated with.
_WEIGHT = 0.2
_FIRST_GUESS_S = 5.0


@dataclass(slots=True)
class Grant:
    """What one HTTP request holds. The store alone knows `opened_s`."""

    owners: tuple[Owner, ...]
    tokens: int
    opened_s: float = 0.0
    has_started: bool = False
    is_settled: bool = False


@dataclass(frozen=True)
class Standing:
    """What is left of one limit, for the response's headers."""

    limit: int
    remaining: int
    reset_s: float


class QuotaExceeded(RequestError):
    """429: the quota of `owner` is used up; `limit` is the name of the one that is."""

    status = 429
    kind = "rate_limit_error"
    code = "rate_limit_exceeded"

    def __init__(self, owner: Owner, limit: str, wait_s: float) -> None:
        retry_after_s = max(1, ceil(wait_s))
        super().__init__(
            f"{owner.title} has used up its {limit} ({getattr(owner.limits, limit)}); try again in "
            f"{retry_after_s} s.",
            retry_after_s=retry_after_s,
        )
        self.limit = limit


@dataclass(slots=True)
class Account:
    """The counters of one owner. `num_running` are the requests that are admitted and not settled,
    `num_waiting` those of them that the engine does not have yet. `day_tokens` were used by what
    has ended on `day`, in UTC; what runs may all end today, so what it holds counts besides."""

    requests: Bucket | None = None
    tokens: Bucket | None = None
    num_running: int = 0
    num_waiting: int = 0
    reserved_tokens: int = 0
    day: int = 0
    day_tokens: int = 0
    mean_s: float = _FIRST_GUESS_S

    def refresh(self, now_s: float) -> None:
        """Bring it to now."""
        for bucket in (self.requests, self.tokens):
            if bucket:
                bucket.refill(now_s)
        today = int(now_s // DAY_S)
        if today > self.day:
            self.day, self.day_tokens = today, 0
        elif today < self.day - 1:  # one day back may be midnight, and begins no day a second time
            self.day = today

    def adopt(self, limits: Limits, now_s: float) -> None:
        """The limits that are in force now."""
        self.requests = adapted(self.requests, limits.requests_per_minute, self.num_waiting, now_s)
        self.tokens = adapted(self.tokens, limits.tokens_per_minute, self.reserved_tokens, now_s)

    def waits(self, limits: Limits, requests: int, tokens: int, now_s: float) -> dict[str, float]:
        """Seconds until each limit lets the request pass, for those that do not now."""
        waits: dict[str, float] = {}
        if self.requests:
            waits["requests_per_minute"] = self.requests.wait_s(requests)
        if self.tokens:
            waits["tokens_per_minute"] = self.tokens.wait_s(tokens)
        most = limits.concurrent_requests
        if requests and most is not None and self.num_running >= most:
            waits["concurrent_requests"] = inf
        if limits.tokens_per_day is not None:
            left = limits.tokens_per_day - self.day_tokens
            if tokens > left:
                waits["tokens_per_day"] = DAY_S - now_s % DAY_S
            elif tokens > left - self.reserved_tokens:
                waits["tokens_per_day"] = inf
        until_next_ends = self.mean_s / max(1, self.num_running)
        return {
            name: until_next_ends if isinf(wait) else wait for name, wait in waits.items() if wait
        }

    @property
    def has_rates(self) -> bool:
        return self.requests is not None or self.tokens is not None

    def standings(self, now_s: float) -> dict[str, Standing]:
        self.refresh(now_s)
        return {
            name: Standing(bucket.capacity, int(bucket.level), bucket.reset_s)
            for name, bucket in (("requests", self.requests), ("tokens", self.tokens))
            if bucket
        }

    def take(self, requests: int, tokens: int) -> None:
        if self.requests:
            self.requests.take(requests)
        if self.tokens:
            self.tokens.take(tokens)
        self.num_running += requests
        self.num_waiting += requests
        self.reserved_tokens += tokens

    def spend_request(self, used: int) -> None:
        """One that waited goes on (`used` 1) or is given back (0)."""
        self.num_waiting -= 1
        if self.requests:
            self.requests.settle(1, used)


def adapted(bucket: Bucket | None, capacity: int | None, held: int, now_s: float) -> Bucket | None:
    """The bucket for a limit that may be new, changed or gone."""
    if capacity is None:
        return None
    if bucket is None:
        return Bucket(capacity, held, now_s)
    bucket.resize(capacity)
    return bucket


def least_left(accounts: Iterable[Mapping[str, Standing]]) -> dict[str, Standing]:
    """By `requests` and `tokens`, the one that has the least left."""
    found: dict[str, Standing] = {}
    for standings in accounts:
        for name, standing in standings.items():
            if name not in found or standing.remaining < found[name].remaining:
                found[name] = standing
    return found


@dataclass
class QuotaBook:
    """The accounts of all owners. Nothing here waits, so each call is one step to asyncio."""

    clock: Callable[[], float] = time
    accounts: dict[str, Account] = field(default_factory=dict)

    async def reserve(self, owners: tuple[Owner, ...], tokens: int) -> Grant:
        """Count a request and reserve its tokens. Raises QuotaExceeded, having changed nothing, or
        InvalidRequest where it asks for more than a limit ever holds."""
        refuse_what_never_fits(owners, tokens)
        now_s = self.clock()
        self._take(owners, 1, tokens, now_s)
        return Grant(owners, tokens, now_s)

    async def extend(self, grant: Grant, tokens: int) -> None:
        """Reserve for another prompt of the same request. Raises as `reserve`."""
        refuse_what_never_fits(grant.owners, grant.tokens + tokens)
        self._take(grant.owners, 0, tokens, self.clock())
        grant.tokens += tokens

    async def start(self, grant: Grant) -> None:
        """The engine has it: from here on the request itself is spent."""
        if grant.has_started or grant.is_settled:
            return
        grant.has_started = True
        for owner in grant.owners:
            self._account(owner, self.clock()).spend_request(1)

    async def settle(self, grant: Grant, used: int) -> None:
        """It has ended, however it did: what it did not use comes back. Once; then nothing."""
        if grant.is_settled:
            return
        grant.is_settled = True
        now_s = self.clock()
        for owner in grant.owners:
            self._settle(self._account(owner, now_s), grant, used, now_s)

    def standings(self, owners: Sequence[Owner]) -> dict[str, Standing]:
        """By `requests` and `tokens`, of the owner that has the least left; as of the limits that
        were in force at the last reservation."""
        now_s = self.clock()
        accounts = (self.accounts.get(owner.name) for owner in owners)
        return least_left(each.standings(now_s) for each in accounts if each and each.has_rates)

    def _account(self, owner: Owner, now_s: float) -> Account:
        """A request may outlive the limits it was admitted with: what ends brings none with it."""
        account = self.accounts.get(owner.name)
        if account is None:
            account = self.accounts[owner.name] = Account()
        account.refresh(now_s)
        return account

    def _take(self, owners: Sequence[Owner], requests: int, tokens: int, now_s: float) -> None:
        accounts = [self._account(owner, now_s) for owner in owners]
        longest: tuple[float, Owner, str] | None = None
        for owner, account in zip(owners, accounts, strict=True):
            account.adopt(owner.limits, now_s)
            for name, wait_s in account.waits(owner.limits, requests, tokens, now_s).items():
                if longest is None or wait_s > longest[0]:
                    longest = (wait_s, owner, name)
        if longest is not None:
            wait_s, owner, name = longest
            raise QuotaExceeded(owner, name, wait_s)
        for account in accounts:
            account.take(requests, tokens)

    def _settle(self, account: Account, grant: Grant, used: int, now_s: float) -> None:
        if not grant.has_started:
            account.spend_request(0)
        if account.tokens:
            account.tokens.settle(grant.tokens, used)
        account.num_running -= 1
        account.reserved_tokens -= grant.tokens
        account.day_tokens += used
        account.mean_s += _WEIGHT * (now_s - grant.opened_s - account.mean_s)


def refuse_what_never_fits(owners: Iterable[Owner], tokens: int) -> None:
    """Raises InvalidRequest where one request needs more than a limit ever holds."""
    for owner in owners:
        for name, most in owner.limits.of_tokens.items():
            if tokens > most:
                raise InvalidRequest(
                    f"The request may need {tokens} tokens, prompts and completions together; the "
                    f"{name} of {owner.title} is {most}. Ask for fewer with max_tokens.",
                    code="request_exceeds_limit",
                    param="max_tokens",
                )
