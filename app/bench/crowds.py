"""Tenants that share a server, each with its own key and so many requests in flight."""

import asyncio
import gc
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import uvloop

from app.bench.connection import Client, ReplyError
from app.bench.outcome import Outcome
from app.bench.reply import note_reply
from app.bench.target import Target
from app.bench.workload import Ask, Workload

# Before and after what is measured: until everybody is there, and so that no answer is cut off.
LEAD_S, TAIL_S = 5.0, 5.0
TIMEOUT_S = 300.0
REFUSED_S = 1.0


@dataclass(frozen=True)
class Crowd:
    """Clients of one tenant: each asks again when it has its answer, and a refused one after a
    second."""

    name: str
    target: Target
    in_flight: int
    output_tokens: int


@dataclass(frozen=True)
class Scene:
    """What became of each crowd's requests, and the time that is looked at."""

    outcomes: Mapping[str, Sequence[Outcome]]
    begun_s: float
    ended_s: float

    def first_tokens_s(self, name: str) -> list[float]:
        """Of the requests that were sent in the time."""
        return sorted(
            each.first_token_s
            for each in self.outcomes[name]
            if each.first_token_s is not None and self.begun_s <= each.due_s < self.ended_s
        )

    def num_tokens(self, name: str) -> float:
        """Prompt and completion tokens; of an answer that began earlier or ended later, the part
        whose chunks came in the time."""
        return sum(self._tokens_of(each) for each in self.outcomes[name])

    def _tokens_of(self, outcome: Outcome) -> float:
        if outcome.error is not None or not outcome.chunk_times:
            return 0.0
        inside = sum(self.begun_s <= at_s < self.ended_s for at_s in outcome.chunk_times)
        num_tokens = outcome.num_prompt_tokens + outcome.num_output_tokens
        return num_tokens * inside / len(outcome.chunk_times)

    def num_failed(self, name: str) -> int:
        return sum(each.error is not None for each in self.outcomes[name])


def play(crowds: Sequence[Crowd], model: str, seconds: float) -> Scene:
    """All crowds at once, for `seconds` and what stands before and after them."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        gc.collect()
        begun_s = time.monotonic() + LEAD_S
        ended_s = begun_s + seconds
        outcomes = runner.run(play_until(crowds, model, ended_s + TAIL_S))
        return Scene(outcomes, begun_s, ended_s)


async def play_until(crowds: Sequence[Crowd], model: str, end_s: float) -> dict[str, list[Outcome]]:
    outcomes: dict[str, list[Outcome]] = {crowd.name: [] for crowd in crowds}
    clients = [Client(crowd.target) for crowd in crowds]
    asking = [
        asyncio.create_task(ask_again_and_again(client, bodies, outcomes[crowd.name]))
        for crowd, client in zip(crowds, clients, strict=True)
        for bodies in [bodies_of(crowd, model)]
        for _ in range(crowd.in_flight)
    ]
    await asyncio.wait(asking, timeout=end_s - time.monotonic(), return_when="FIRST_EXCEPTION")
    for task in asking:
        task.cancel()
    for result in await asyncio.gather(*asking, return_exceptions=True):
        if isinstance(result, Exception):
            raise result
    for client in clients:
        client.close()
    return outcomes


def bodies_of(crowd: Crowd, model: str) -> Iterator[bytes]:
    """Short questions, of no two the same numbers in a row."""
    for number in count():
        workload = Workload((Ask(number, None, crowd.output_tokens),), seed=number)
        yield workload.bodies(model)[0]


async def ask_again_and_again(
    client: Client, bodies: Iterator[bytes], outcomes: list[Outcome]
) -> None:
    for body in bodies:
        now_s = time.monotonic()
        outcome = Outcome(due_s=now_s, started_s=now_s)
        try:
            reply = await client.exchange(client.request(body), TIMEOUT_S)
            note_reply(outcome, reply, stream=True)
        except ReplyError as error:
            outcome.error = str(error)
        outcomes.append(outcome)
        if outcome.error is not None:
            await asyncio.sleep(REFUSED_S)
