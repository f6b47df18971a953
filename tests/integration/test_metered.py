"""The engine's client with vLLM's own `generate` replaced: what it is called with, and when."""

import asyncio
import warnings
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from app.core.admission import Admission
from app.core.errors import InvalidRequest
from app.core.keys import make_key
from app.core.meter import Meter, current_meter
from app.core.quota import QuotaBook, QuotaExceeded
from app.core.tenants import Tenant
from tests.unit.core.test_admission import open_queue
from tests.unit.silent_observer import SilentObserver

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # vLLM's imports have some of their own
    from vllm.sampling_params import RequestOutputKind, SamplingParams
    from vllm.v1.engine.async_llm import AsyncLLM

    from app.engine.kv_cache_watch import KvCacheWatch
    from app.engine.metered import MeteredAsyncLLM

PROMPT = {"prompt_token_ids": [1, 2, 3, 4]}


class Engine:
    """`started` are the prompts that vLLM was really given; each answers with two tokens."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started: list[Any] = []
        self.num_closed = 0
        monkeypatch.setattr(AsyncLLM, "generate", lambda _, *words, **more: self.answer(*words))
        self.client = MeteredAsyncLLM.__new__(MeteredAsyncLLM)
        self.client.model_config = SimpleNamespace(max_model_len=100)
        monkeypatch.setattr(MeteredAsyncLLM, "__del__", lambda _: None, raising=False)

    async def answer(self, prompt: Any, params: Any, request_id: str) -> AsyncIterator[Any]:
        self.started.append(prompt)
        try:
            for reason in (None, "stop"):
                part = SimpleNamespace(token_ids=[7], index=0, finish_reason=reason)
                yield SimpleNamespace(
                    prompt_token_ids=prompt["prompt_token_ids"], num_cached_tokens=1, outputs=[part]
                )
        finally:
            self.num_closed += 1

    def generate(self, params: SamplingParams, prompt: Any = PROMPT) -> Any:
        return self.client.generate(prompt, params, "id")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    return Engine(monkeypatch)


@pytest.fixture
def book() -> QuotaBook:
    return QuotaBook(lambda: 1e9)


@pytest.fixture
def meter(book: QuotaBook, request: pytest.FixtureRequest) -> Iterator[Meter]:
    limits = getattr(request, "param", {})
    key = make_key("k", "0" * 64, ["infer"], tenant="t", limits=limits)
    meter = Meter(ticket=Admission(book, open_queue(), 20, SilentObserver()).open(key, Tenant("t")))
    token = current_meter.set(meter)
    yield meter
    current_meter.reset(token)


def params(**more: Any) -> SamplingParams:
    return SamplingParams(output_kind=RequestOutputKind.DELTA, **more)


async def read(outputs: Any) -> int:
    return len([output async for output in outputs])


def test_tokens_are_reserved_while_it_runs_and_given_back_at_the_end(
    engine: Engine, book: QuotaBook, meter: Meter
) -> None:
    async def use() -> None:
        outputs = engine.generate(params(max_tokens=10, n=2))
        assert engine.started == []
        await anext(outputs)
        assert book.accounts["key:k"].reserved_tokens == 4 + 10 * 2
        assert await read(outputs) == 1
        assert meter.ticket is not None
        await meter.ticket.close(meter.completion_tokens)
        account = book.accounts["tenant:t"]
        assert (account.reserved_tokens, account.day_tokens) == (0, 4 + 2)

    meter.asked_tokens = 10
    asyncio.run(use())
    assert engine.num_closed == 1


def test_the_default_length_is_passed_on_where_none_is_asked_for(
    engine: Engine, meter: Meter
) -> None:
    asked, implied = params(max_tokens=96), params(max_tokens=96)
    engine.generate(implied)
    meter.asked_tokens = 96
    engine.generate(asked)
    assert (implied.max_tokens, asked.max_tokens) == (20, 96)


@pytest.mark.parametrize("meter", [{"max_n": 1}], indirect=True)
def test_more_than_a_request_may_is_refused_when_it_is_called(engine: Engine, meter: Meter) -> None:
    with pytest.raises(InvalidRequest):
        engine.generate(params(max_tokens=5, n=2))


@pytest.mark.parametrize("meter", [{"tokens_per_minute": 30}], indirect=True)
def test_prompts_that_never_fit_together_are_refused_when_the_last_is_called(
    engine: Engine, meter: Meter
) -> None:
    engine.generate(params(max_tokens=20))
    with pytest.raises(InvalidRequest):
        engine.generate(params(max_tokens=20))
    assert engine.started == []


@pytest.mark.parametrize("meter", [{"tokens_per_minute": 30}], indirect=True)
def test_a_refused_prompt_never_reaches_the_engine(
    engine: Engine, book: QuotaBook, meter: Meter
) -> None:
    async def use() -> None:
        assert meter.ticket is not None
        await book.reserve(meter.ticket.owners, 10)  # another request of the key
        with pytest.raises(QuotaExceeded):
            await read(engine.generate(params(max_tokens=20)))

    asyncio.run(use())
    assert engine.started == []
    assert meter.ticket is not None
    assert isinstance(meter.ticket.refusal, QuotaExceeded)


def test_every_prompt_gets_its_tenants_salt_and_the_callers_is_left_alone(
    engine: Engine, meter: Meter
) -> None:
    given = {"prompt_token_ids": [1], "cache_salt": "mine"}
    asyncio.run(read(engine.generate(params(), given)))
    asyncio.run(read(engine.generate(params())))
    assert [prompt["cache_salt"] for prompt in engine.started] == ["t:mine", "t:"]
    assert given["cache_salt"] == "mine"
    assert "cache_salt" not in PROMPT


def test_a_prompt_counts_from_when_the_engine_gets_it(
    engine: Engine, meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that leaves before the first token has had its prompt computed."""

    async def never(*_: Any) -> AsyncIterator[Any]:
        await asyncio.sleep(30)
        yield None

    async def use() -> None:
        reading = asyncio.ensure_future(anext(engine.generate(params())))
        await asyncio.sleep(0.01)
        reading.cancel()
        await asyncio.wait({reading})

    monkeypatch.setattr(engine, "answer", never)
    asyncio.run(use())
    assert (meter.prompt_tokens, meter.has_begun, meter.first_token_s) == (4, False, None)


def test_the_first_token_is_noted(engine: Engine, meter: Meter) -> None:
    assert meter.first_token_s is None
    asyncio.run(read(engine.generate(params())))
    assert meter.first_token_s is not None
    assert (meter.prompt_tokens, meter.cached_tokens, meter.completion_tokens) == (4, 1, 2)


def test_the_gateway_hears_how_full_the_kv_cache_is_from_vllms_statistics() -> None:
    watch, heard = KvCacheWatch(), list[float]()
    watch.record(SimpleNamespace(kv_cache_usage=0.5))  # nobody listens yet
    watch.observe = heard.append
    watch.record(None)
    watch.record(SimpleNamespace(kv_cache_usage=0.97), None)
    assert heard == [0.97]


def test_closing_it_early_ends_it_in_the_engine(engine: Engine, meter: Meter) -> None:
    async def use() -> None:
        outputs = engine.generate(params())
        await anext(outputs)
        await outputs.aclose()

    asyncio.run(use())
    assert engine.num_closed == 1
