"""So many generated requests against a running gateway, which has to stay well and small."""

import asyncio
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import httpx
import psutil
from hypothesis import HealthCheck, Phase, given, seed, settings

from app.core.envelopes import MAX_ERROR_BYTES
from tests.abuse.leaks import leak_in
from tests.fuzz.request_grammar import requests
from tests.integration.gateway_process import FUZZ_SECRET, GatewayProcess
from tests.integration.socket_log.place import opened_by

IN_FLIGHT = 16
HEADERS = {"content-type": "application/json", "authorization": f"Bearer {FUZZ_SECRET}"}
# Of memory after the warm-up, a quarter of the requests: what a process of Python may grow by while
# its caches fill. A leak of a few KB per request is more.
MAX_GROWTH_BYTES = 24 << 20
ERROR_EVENT = re.compile(r'(event: error\n)?data: \{("type":"error",)?"error":')
Request = tuple[str, bytes]


def draw_requests(count: int, number: int) -> list[Request]:
    """The same `count` requests for the same `number`."""
    drawn: list[Request] = []

    @seed(number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(requests)
    def draw(request: Request) -> None:
        drawn.append(request)

    draw()
    return drawn


@dataclass
class Campaign:
    """Sends requests, some at a time, and keeps what is wrong with their answers."""

    gateway: GatewayProcess
    wrong: list[str] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    def send(self, requests: Iterable[Request]) -> None:
        asyncio.run(self._send(iter(requests)))

    async def _send(self, requests: Iterator[Request]) -> None:
        async with httpx.AsyncClient(
            base_url=self.gateway.url, headers=HEADERS, timeout=60
        ) as client:

            async def work() -> None:
                for path, content in requests:
                    if what := await self._ask(client, path, content):
                        self.wrong.append(f"{path} {content!r}: {what}")

            await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))

    async def _ask(self, client: httpx.AsyncClient, path: str, content: bytes) -> str:
        try:
            answer = await client.post(path, content=content)
        except httpx.HTTPError as error:
            return repr(error)
        self.statuses[answer.status_code] += 1
        return what_is_wrong(answer)


def what_is_wrong(answer: httpx.Response) -> str:
    """Empty for an answer as it should be."""
    status = answer.status_code
    if status >= 500 and not (status == 503 and "retry-after" in answer.headers):
        return f"{status} {answer.text}"
    if status < 400:
        return failure_in(answer.text) if is_stream(answer) else ""
    if not answer.json()["error"]["message"]:
        return answer.text
    return wrong_words(answer.text)


def wrong_words(error: str) -> str:
    if len(error.encode()) > MAX_ERROR_BYTES:
        return f"an error of {len(error)} characters"
    return error if leak_in(error) else ""


def is_stream(answer: httpx.Response) -> bool:
    return str(answer.headers.get("content-type")).startswith("text/event-stream")


def failure_in(events: str) -> str:
    """What is wrong with the errors of a stream that began: ours, or words of the inside."""
    ours = ("internal_error", "engine_error", "api_error", "engine_dead")
    errors = [each for each in events.split("\n\n") if ERROR_EVENT.match(each)]
    failed = (each for each in errors if any(f'"{code}"' in each for code in ours))
    return next(failed, "") or next(filter(None, map(wrong_words, errors)), "")


def attack_with(gateway: GatewayProcess, num_requests: int, number: int) -> str:
    """Raises AssertionError with the requests that were answered wrongly; else says what was
    answered, and what memory did after the warm-up."""
    engines, opened = gateway.engine_pids(), opened_by(gateway)
    processes = [psutil.Process(pid) for pid in (gateway.process.pid, *engines)]
    requests = draw_requests(num_requests, number)
    campaign = Campaign(gateway)
    campaign.send(requests[: num_requests // 4])
    before = [process.memory_info().rss for process in processes]
    campaign.send(requests[num_requests // 4 :])
    growth = [
        process.memory_info().rss - size for process, size in zip(processes, before, strict=True)
    ]
    assert not campaign.wrong, "\n".join(campaign.wrong[:10])
    assert gateway.engine_pids() == engines
    assert opened_by(gateway) == opened
    assert max(growth) <= MAX_GROWTH_BYTES, growth
    said = ", ".join(f"{size / 1e6:+.1f} MB" for size in growth)
    statuses = dict(sorted(campaign.statuses.items()))
    return f"{len(requests)} requests, by status {statuses}; memory of gateway and engine {said}"
