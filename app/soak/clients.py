"""The soak's clients: each asks one thing after the other, and now and then reconnects."""

import asyncio
import itertools
import json
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import httpx

from app.bench.target import Target
from app.soak.mix import Ask, Leaving, draw

TIMEOUT_S = 120.0
# A client keeps its connection for about so many requests.
REQUESTS_PER_CONNECTION = 12


@dataclass(frozen=True)
class Tokens:
    """What an answer says of itself."""

    prompt: int
    completion: int


@dataclass(frozen=True)
class Sent:
    """A request and what its client saw; `status` 0: it left before there was one."""

    id: str
    ask: Ask
    status: int
    tokens: Tokens | None = None
    fault: str = ""


def faults_of(sent: Iterable[Sent]) -> Counter[str]:
    """What went otherwise than asked for, by kind."""
    return Counter(f"{each.ask.kind}: {each.fault}" for each in sent if each.fault)


@dataclass
class Clients:
    """`name` begins the ids of its requests."""

    target: Target
    model: str
    name: str
    sent: list[Sent] = field(default_factory=list)

    def run(self, num_clients: int, duration_s: float) -> "Clients":
        """Blocks until the time is over and every answer is there."""
        asyncio.run(self._run(num_clients, time.monotonic() + duration_s))
        return self

    async def _run(self, num_clients: int, until_s: float) -> None:
        numbers = itertools.count()
        async with asyncio.TaskGroup() as group:
            for seed in range(num_clients):
                group.create_task(self._ask_on(seed, numbers, until_s))

    async def _ask_on(self, seed: int, numbers: Iterator[int], until_s: float) -> None:
        dice, asks = random.Random(seed), draw(1000 * seed)  # noqa: S311 - a workload
        while time.monotonic() < until_s:
            async with httpx.AsyncClient(base_url=self.target.url, timeout=TIMEOUT_S) as client:
                for _ in range(dice.randrange(1, 2 * REQUESTS_PER_CONNECTION)):
                    if time.monotonic() >= until_s:
                        return
                    one = Exchange(client, f"{self.name}-{next(numbers)}", next(asks), dice)
                    self.sent.append(await one.run(self.model, self.target))


@dataclass
class Exchange:
    client: httpx.AsyncClient
    id: str
    ask: Ask
    dice: random.Random

    async def run(self, model: str, target: Target) -> Sent:
        headers = {"x-request-id": self.id, **(target.headers if self.ask.has_key else {})}
        body = {"model": model, **self.ask.body}
        if body.get("stream") and self.ask.path.endswith("completions"):
            body["stream_options"] = {"include_usage": True}
        request = self.client.build_request("POST", self.ask.path, json=body, headers=headers)
        try:
            if self.ask.leaving is Leaving.WAITING:
                return await self._leave_waiting(request)
            return await self._stay(request)
        except httpx.HTTPError as error:
            return Sent(self.id, self.ask, 0, fault=type(error).__name__)

    async def _leave_waiting(self, request: httpx.Request) -> Sent:
        """What was not sent yet would not be missed."""
        is_sent = asyncio.Event()

        async def note(event: str, _: object) -> None:
            if event == "http11.send_request_body.complete":
                is_sent.set()

        request.extensions["trace"] = note
        sending = asyncio.create_task(self.client.send(request))
        waiting = asyncio.create_task(is_sent.wait())
        await asyncio.wait({sending, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        try:
            answer = await asyncio.wait_for(sending, self.dice.uniform(0.05, 0.5))
        except TimeoutError:
            return Sent(self.id, self.ask, 0)
        return self._judge(answer.status_code, answer.text)

    async def _stay(self, request: httpx.Request) -> Sent:
        answer = await self.client.send(request, stream=True)
        try:
            if self.ask.leaving is Leaving.IN_STREAM:
                await self._read_a_little(answer)
                return Sent(self.id, self.ask, answer.status_code)
            text = (await answer.aread()).decode()
            return self._judge(answer.status_code, text)
        finally:
            await answer.aclose()

    async def _read_a_little(self, answer: httpx.Response) -> None:
        enough = self.dice.randrange(1, 30)
        async for _ in answer.aiter_lines():
            enough -= 1
            if not enough:
                return

    def _judge(self, status: int, text: str) -> Sent:
        if status != self.ask.expected:
            return Sent(self.id, self.ask, status, fault=f"answered {status}")
        if status != 200:
            return Sent(self.id, self.ask, status)
        tokens = read_tokens(text)
        if tokens is None:
            return Sent(self.id, self.ask, status, fault="no whole answer")
        return Sent(self.id, self.ask, status, tokens)


def read_tokens(text: str) -> Tokens | None:
    """The last usage that an answer or a stream names, in any of the three APIs' words."""
    prompt = completion = None
    for line in text.splitlines():
        part = line.removeprefix("data: ")
        if '"usage"' not in part or not part.startswith("{"):
            continue
        event = json.loads(part)
        inner = event.get("response") or event.get("message") or {}
        if usage := event.get("usage") or inner.get("usage"):
            prompt = usage.get("prompt_tokens", usage.get("input_tokens", prompt))
            completion = usage.get("completion_tokens", usage.get("output_tokens", completion))
    if prompt is None or completion is None:
        return None
    return Tokens(int(prompt), int(completion))
