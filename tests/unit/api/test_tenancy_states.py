"""Thousands of interleavings of all that can happen to requests between the door and the engine:
real are tickets, quota, queue and deadlines; time and the engine are the test's.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from starlette.types import Message, Receive, Scope, Send

from app.api.context import SCOPE_KEY, RequestContext
from app.api.tenancy import Tenancy
from app.core.admission import Admission
from app.core.errors import RequestError
from app.core.fair_queue import FairQueue, Priority, QueueBounds
from app.core.key_limits import Limits
from app.core.keys import Key, KeyRing, make_key
from app.core.quota import DAY_S, QuotaBook
from app.core.tenants import Tenant

NUM_PLACES, MAX_WAIT_S = 4, 20.0
KEYS = {"a1": "a", "a2": "a", "b1": "b"}
MOST = Limits(20, 300, 6, 1000)
NEVER = inf


class PlayedLoop(asyncio.SelectorEventLoop):
    """Its clock is turned by hand, and its timers go by that."""

    now_s = float(DAY_S * 20_000 - 60)

    def time(self) -> float:
        return self.now_s

    def turn(self, times: int) -> None:
        async def spin() -> None:
            for _ in range(times):
                await asyncio.sleep(0)

        self.run_until_complete(spin())

    def settle(self) -> None:
        self.turn(30)


class Gauges:
    """What the metrics would show, by tenant."""

    def __init__(self) -> None:
        self.waiting_now: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()

    def waiting(self, tenant: str, change: int) -> None:
        self.waiting_now[tenant] += change

    def reserved(self, tenant: str, num_requests: int, num_tokens: int) -> None:
        self.requests[tenant] += num_requests
        self.tokens[tenant] += num_tokens

    def admitted(self, tenant: str, waited_s: float) -> None: ...
    def refused(self, tenant: str, reason: str) -> None: ...
    def first_token(self, tenant: str, after_s: float) -> None: ...


@dataclass
class Request:
    """One in the machine's hands. `ending` is what its engine or client does next."""

    key: Key
    prompts: int
    num_prompt: int
    num_completion: int
    num_sequences: int
    deadline_s: float
    context: RequestContext = field(default_factory=RequestContext)
    ending: "asyncio.Future[str]" = field(default_factory=asyncio.Future)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    task: "asyncio.Task[None] | None" = None
    num_entered: int = 0
    at_s: float = 0.0

    async def work(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The engine's side, ended as vLLM's routes end it when the client is gone."""
        working = asyncio.ensure_future(self.generate())
        leaving = asyncio.ensure_future(receive())
        try:
            await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (working, leaving):
                task.cancel()
            await asyncio.wait({working, leaving})
        if not working.cancelled():
            working.result()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"{}"})

    async def generate(self) -> None:
        ticket = self.context.meter.ticket
        assert ticket is not None
        for _ in range(self.prompts):
            place = await ticket.enter(self.num_prompt, self.num_completion, self.num_sequences)
            self.num_entered += 1
            self.context.meter.prompt_tokens += self.num_prompt
            ticket.note_first_token(place)
            place.charge(1)
        if await self.ending == "fail":
            raise RuntimeError("the engine failed")

    async def receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None: ...


class TenancyMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.loop = PlayedLoop()
        asyncio.set_event_loop(self.loop)
        self.gauges = Gauges()
        self.book = QuotaBook(self.loop.time)
        bounds = QueueBounds(3, MAX_WAIT_S, 0.9)
        self.queue = FairQueue(bounds, self.gauges, self.loop.time)
        self.queue.open(NUM_PLACES, lookahead=0)
        self.ring = KeyRing([])
        self.configured = {name: Tenant(name, MOST) for name in set(KEYS.values())}
        self.highest = dict.fromkeys(self.configured, MOST)
        self.priority = Priority.NORMAL
        self.adopt()
        self.admission = Admission(self.book, self.queue, 50, self.gauges)
        self.requests: list[Request] = []
        self.used: dict[str, list[tuple[float, int]]] = {name: [] for name in self.configured}

    def adopt(self) -> None:
        keys = [
            replace(make_key(name, "0" * 64, ["infer"], tenant=KEYS[name]), priority=self.priority)
            for name in KEYS
        ]
        self.ring.adopt(KeyRing(keys, self.configured.values()))

    @rule(
        name=st.sampled_from(sorted(KEYS)),
        sizes=st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 40)),
        num_sequences=st.sampled_from([1, 1, 1, 2, NUM_PLACES + 1]),
        timeout_ms=st.sampled_from([None, None, 1, 400, 5000]),
    )
    def come(
        self,
        name: str,
        sizes: tuple[int, int, int],
        num_sequences: int,
        timeout_ms: int | None,
    ) -> None:
        key = next(each for each in self.ring.keys if each.name == name)
        deadline_s = NEVER if timeout_ms is None else self.loop.now_s + timeout_ms / 1000
        made = self.loop.run_until_complete(self.make(key, sizes, num_sequences, deadline_s))
        headers = [(b"x-request-timeout-ms", str(timeout_ms).encode())] if timeout_ms else []
        scope = {"type": "http", "headers": headers, SCOPE_KEY: made.context}
        tenancy = Tenancy(made.work, self.ring, self.admission)
        made.at_s, made.context.key = self.loop.now_s, key
        made.task = self.loop.create_task(tenancy(scope, made.receive, made.send))
        self.requests.append(made)

    async def make(
        self, key: Key, sizes: tuple[int, int, int], num_sequences: int, deadline_s: float
    ) -> Request:
        return Request(key, *sizes, num_sequences, deadline_s)

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), how=st.sampled_from(["finish", "fail", "leave", "stop"]))
    def end(self, data: st.DataObject, how: str) -> None:
        request = data.draw(st.sampled_from(self.requests))
        if how in ("finish", "fail") and not request.ending.done():
            request.context.meter.completion_tokens = request.num_entered
            request.ending.set_result(how)
        elif how == "leave":
            request.left.set()
        elif request.task is not None:
            request.task.cancel()

    @rule(times=st.integers(1, 8))
    def go_on(self, times: int) -> None:
        """Not to the end: what comes next meets requests that are on their way."""
        self.loop.turn(times)

    @rule(seconds=st.sampled_from([0.0, 0.0, 0.3, 3.0, 25.0, 70.0]))
    def wait(self, seconds: float) -> None:
        self.loop.turn(1)  # who has just come has read the clock
        self.loop.now_s += seconds
        self.loop.settle()
        self.check()

    @rule(usage=st.sampled_from([0.1, 1.0]))
    def fill_cache(self, usage: float) -> None:
        self.queue.note_kv_cache(usage)

    @rule(
        name=st.sampled_from(["a", "b"]),
        limit=st.sampled_from(["requests_per_minute", "tokens_per_minute", "concurrent_requests"]),
        value=st.one_of(st.none(), st.integers(1, 300)),
        weight=st.sampled_from([1.0, 3.0]),
        priority=st.sampled_from(Priority),
    )
    def configure(
        self, name: str, limit: str, value: int | None, weight: float, priority: Priority
    ) -> None:
        limits: Any = {limit: value}
        tenant = self.configured[name]
        self.configured[name] = replace(
            tenant, limits=replace(tenant.limits, **limits), weight=weight
        )
        before = getattr(self.highest[name], limit)
        highest: Any = {limit: None if None in (before, value) else max(before, value)}
        self.highest[name] = replace(self.highest[name], **highest)
        self.priority = priority
        self.adopt()

    def check(self) -> None:
        """Nothing leaks, nothing is below zero, and nobody is above a limit."""
        self.take_off_what_is_over()
        places = self.queue.num_taken
        running = [each for each in self.requests if each.num_entered]
        assert places == sum(each.num_entered * each.num_sequences for each in running)
        assert places <= NUM_PLACES or len(running) == 1
        waiting = [each for each in self.requests if each.num_entered < each.prompts]
        assert self.queue.num_waiting == len(waiting)
        for tenant in self.configured:
            self.check_tenant(tenant)

    def take_off_what_is_over(self) -> None:
        for request in [each for each in self.requests if each.task and each.task.done()]:
            self.requests.remove(request)
            assert request.task is not None
            if not request.task.cancelled():
                assert isinstance(request.task.exception(), RequestError | RuntimeError | None)
            tokens = request.num_entered * request.num_prompt
            tokens += request.context.meter.completion_tokens
            self.used[request.key.tenant].append((request.at_s, tokens))
        assert all(self.loop.now_s < each.deadline_s + 0.001 for each in self.requests)

    def check_tenant(self, tenant: str) -> None:
        mine = [each for each in self.requests if each.key.tenant == tenant]
        account = self.book.accounts.get(f"tenant:{tenant}")
        held = sum(
            min(each.num_entered + 1, each.prompts) * (each.num_prompt + each.num_completion)
            for each in mine
        )
        assert self.gauges.requests[tenant] == len(mine)
        assert self.gauges.tokens[tenant] == held
        assert self.gauges.waiting_now[tenant] == sum(
            each.num_entered < each.prompts for each in mine
        )
        if account is not None:
            assert (account.num_running, account.reserved_tokens) == (len(mine), held)
            assert account.day_tokens >= 0
            most = self.highest[tenant].concurrent_requests
            assert most is None or account.num_running <= most
        self.check_rate(tenant, mine)

    def check_rate(self, tenant: str, running: list[Request]) -> None:
        """What was used, and what runs has used so far, in every stretch of time."""
        most = self.highest[tenant].tokens_per_minute
        if most is None:
            return
        amounts = sorted(
            self.used[tenant]
            + [(each.at_s, each.num_entered * each.num_prompt) for each in running]
        )
        for first, (start_s, _) in enumerate(amounts):
            total = 0
            for at_s, amount in amounts[first:]:
                total += amount
                assert total <= most * (1 + (at_s - start_s) / 60) + 1e-6

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        self.loop.settle()
        self.check()
        for request in self.requests:
            request.left.set()
        self.loop.settle()
        assert all(each.task is not None and each.task.done() for each in self.requests)
        self.take_off_what_is_over()
        assert (self.queue.num_taken, self.queue.num_waiting) == (0, 0)
        for counter in (self.gauges.requests, self.gauges.tokens, self.gauges.waiting_now):
            assert not any(counter.values())
        for account in self.book.accounts.values():
            assert (account.num_running, account.num_waiting, account.reserved_tokens) == (0, 0, 0)
        asyncio.set_event_loop(None)
        self.loop.close()


TestTenancy = TenancyMachine.TestCase
TestTenancy.settings = settings(
    max_examples=400,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],  # a loop of its own for each of them
)
