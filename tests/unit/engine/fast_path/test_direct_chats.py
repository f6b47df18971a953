"""Plain chats taken to the engine directly, and by vLLM's own handler, client and all: the engine
is sent the same, and so is the client."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from unittest import mock

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.exceptions import VLLMError
from vllm.v1.engine import EngineCoreEvent, EngineCoreEventType, FinishReason
from vllm.v1.engine.core_client import AsyncMPClient
from vllm.v1.engine.exceptions import EngineDeadError

from app.core.parsed_body import hand_on
from app.engine.fast_path import direct_chats
from app.engine.fast_path.direct_chats import DirectChats, find_id, make_direct_chats
from app.engine.fast_path.direct_streams import DirectStreams
from app.engine.fast_path.engine_inlet import has_plain_inlet
from app.engine.fast_path.fast_route import FastRoute, Headers, RawRequest, plain_apis
from app.engine.fast_path.plain_chats import PlainChats
from app.engine.fast_path.short_prompts import ShortPrompts
from app.engine.fast_path.whole_answers import WholeAnswers, json_of, whole_apis
from tests.unit.engine.fast_path.byte_tokenizer import tokens_of
from tests.unit.engine.fast_path.fast_client import USAGE, Client, refuse_stock, texts_of
from tests.unit.engine.fast_path.recorded_engine import Piece
from tests.unit.engine.fast_path.test_differential import TOKENS
from tests.unit.engine.fast_path.test_engine_statistics import comparable
from tests.unit.engine.fast_path.test_plain_chats import FIELDS, Bench
from tests.unit.engine.fast_path.wired_engine import TASKS, WiredCore, WiredEngine

pytestmark = pytest.mark.filterwarnings("ignore:max_tokens is deprecated:DeprecationWarning")

PATH = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": "bench", "messages": [{"role": "user", "content": "x"}]}
ENDS = st.sampled_from([FinishReason.STOP, FinishReason.LENGTH, FinishReason.ABORT])
UNUSUAL_ENDS = (FinishReason.ERROR, FinishReason.REPETITION)
Told = tuple[Any, Any]  # what the client is, and the engine


@pytest.fixture(autouse=True)
def still_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_700_000_000.0)


@asynccontextmanager
async def direct(
    bench: Bench, tool_parser: str | None = "llama3_json"
) -> AsyncIterator[tuple[WholeAnswers, WiredEngine, DirectChats]]:
    """The route as it is served, and an engine that says what it is told to."""
    async with WiredEngine(bench.config, bench.ours) as engine:
        serving = bench.serving(engine, tool_parser)
        plain, streams = PlainChats(serving), DirectStreams(engine)
        plain.install()
        chats = DirectChats(engine, plain, ShortPrompts(bench.ours), streams, TASKS)
        (api,) = plain_apis(serving, None, chats)
        ((_, whole),) = whole_apis(serving, None, chats)
        yield WholeAnswers(whole, FastRoute(api, streams, refuse_stock)), engine, chats


async def play(engine: WiredEngine, pieces: Sequence[Piece | Exception], turns: int = 30) -> None:
    request = await engine.next_request()
    for piece in pieces:
        if isinstance(piece, Exception):
            engine.engine_core.steps.put_nowait(piece)
        else:
            await engine.step({request.request_id: piece}, turns)


def engine_told(engine: WiredEngine) -> Any:
    """What went over the wire, but for what is random or a time, and what was noted of it."""
    engine.engine_core.read_wire()
    requests = [msgspec.structs.asdict(each) for each in engine.engine_core.added]
    for each in requests:
        assert each["request_id"].startswith(each["external_req_id"] + "-")
        each["request_id"] = each["arrival_time"] = None
        params = each["sampling_params"]
        each["sampling_params"] = {name: getattr(params, name) for name in params.__struct_fields__}
    statistics = [comparable(each) for each in engine.logger_manager.seen]
    num_left = len(engine.output_processor.request_states)
    return requests, len(engine.engine_core.aborted), num_left, statistics


def ask_direct(
    bench: Bench,
    fields: dict[str, Any],
    pieces: Sequence[Piece | Exception],
    turns: int = 30,
    **more: Any,
) -> Told | None:
    """None where vLLM has to be asked."""

    async def ask() -> Told | None:
        async with direct(bench, **more) as (route, engine, chats):
            client = Client(fields)
            scope = client.scope("7")
            hand_on(scope, fields)
            if chats.prepare(fields, scope["headers"]) is None:
                return None
            playing = asyncio.create_task(play(engine, pieces, turns))
            try:
                await asyncio.wait_for(route(scope, client.receive, client.send), 60)
                answer: Any = client.content
            except (VLLMError, ValueError) as error:
                answer = type(error), str(error)
            await playing
            return answer, engine_told(engine)

    return asyncio.run(ask())


def ask_stock(
    bench: Bench, fields: dict[str, Any], pieces: Sequence[Piece | Exception], **more: Any
) -> Told:
    async def ask() -> Told:
        async with WiredEngine(bench.config, bench.theirs) as engine:
            serving = bench.serving(engine, **more)
            playing = asyncio.create_task(play(engine, pieces))
            request = ChatCompletionRequest.model_validate(fields)
            raw = RawRequest(Headers({"x-request-id": "7"}))
            try:
                answer = await serving.create_chat_completion(request, raw)
                if fields.get("stream"):
                    answer = "".join([part async for part in answer]).encode()
                else:
                    answer = json_of(answer)
            except (VLLMError, ValueError) as error:
                answer = type(error), str(error)
            await playing
            return answer, engine_told(engine)

    return asyncio.run(ask())


@st.composite
def answers(draw: st.DrawFn) -> list[Piece]:
    middle = draw(st.lists(st.lists(TOKENS, min_size=1, max_size=3), max_size=8))
    last = draw(st.lists(TOKENS, max_size=2))
    finish, reason = draw(ENDS), draw(st.none() | st.just("x") | st.just(7))
    return [*map(Piece, middle), Piece(last, finish, reason)]


STOPS = st.lists(st.sampled_from(["S", "TOP", "a b", "日本", "the st"]), min_size=1, max_size=2)
STREAMED = st.sampled_from(
    [
        {},
        {"stream": False},
        {"stream": True},
        {"stream": True, "stream_options": {"include_usage": True}},
    ]
)


@pytest.mark.parametrize("tool_parser", [None, "llama3_json"])
def test_the_client_and_the_engine_are_sent_the_same(bench: Bench, tool_parser: str | None) -> None:
    taken: list[bool] = []

    @settings(max_examples=150, deadline=None)
    @given(FIELDS, STREAMED, st.none() | STOPS, st.booleans(), answers())
    def compare(
        fields: dict[str, Any], streamed: Any, stop: Any, ignores: bool, pieces: list[Piece]
    ) -> None:
        fields = fields | streamed | ({"stop": stop} if stop else {}) | {"ignore_eos": ignores}
        ours = ask_direct(bench, fields, pieces, tool_parser=tool_parser)
        taken.append(ours is not None)
        assert ours is None or ours == ask_stock(bench, fields, pieces, tool_parser=tool_parser)

    compare()
    assert sum(taken) > len(taken) / 10


@pytest.mark.parametrize("streamed", [{}, {"stream": True}])
@pytest.mark.parametrize("finish", UNUSUAL_ENDS)
def test_an_unusual_end_is_worded_the_same(
    bench: Bench, streamed: dict[str, Any], finish: FinishReason
) -> None:
    pieces = [*map(Piece, ([97], [98], [99])), Piece([100], finish)]
    assert ask_direct(bench, BODY | streamed, pieces) == ask_stock(bench, BODY | streamed, pieces)


@pytest.mark.parametrize("streamed", [{}, {"stream": True}])
def test_a_long_answer_is_the_same_with_something_unusual_in_it(
    bench: Bench, streamed: dict[str, Any]
) -> None:
    """What the engine notes of a request that it has interrupted comes with some token."""
    noted = [EngineCoreEvent.new_event(EngineCoreEventType.SCHEDULED, 1.5)]
    tokens = "é日本 stop 😀 ab".encode() * 20
    pieces = [
        Piece([token], events=noted if number % 50 == 0 else None)
        for number, token in enumerate(tokens)
    ]
    pieces += [Piece([97], FinishReason.LENGTH)]
    assert ask_direct(bench, BODY | streamed, pieces) == ask_stock(bench, BODY | streamed, pieces)


def test_the_middle_of_a_whole_answer_is_no_work_for_vllms_processor(bench: Bench) -> None:
    async def ask(fields: dict[str, Any]) -> int:
        async with direct(bench) as (route, engine, chats):
            client = Client(fields)
            hand_on(scope := client.scope("7"), fields)
            pieces = [
                *map(Piece, ([97], [98], [99], [100, 101])),
                Piece([102], FinishReason.LENGTH),
            ]
            process = mock.Mock(wraps=chats.streams._process)
            chats.streams._process = process
            playing = asyncio.create_task(play(engine, pieces))
            await route(scope, client.receive, client.send)
            await playing
            assert b"abcdef" in client.content
            return sum(len(call.args[0]) for call in process.call_args_list)

    assert asyncio.run(ask(BODY)) == 2  # the first and the last
    assert asyncio.run(ask(BODY | {"stop": ["zz"]})) == 5


@pytest.mark.parametrize("streamed", [{}, {"stream": True}])
@pytest.mark.parametrize("error", [EngineDeadError(), RuntimeError("inside")])
@pytest.mark.parametrize("before", [[], [Piece([97]), Piece([98])]])
def test_an_engine_that_fails_is_told_of_the_same(
    bench: Bench, streamed: dict[str, Any], error: Exception, before: list[Piece]
) -> None:
    pieces: list[Piece | Exception] = [*before, error]
    assert ask_direct(bench, BODY | streamed, pieces) == ask_stock(bench, BODY | streamed, pieces)


def test_where_outputs_come_faster_than_they_are_written_text_and_usage_are_the_same(
    bench: Bench,
) -> None:
    fields = BODY | {"stream": True} | USAGE

    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 5), answers())
    def compare(turns: int, pieces: list[Piece]) -> None:
        ours = ask_direct(bench, fields, pieces, turns)
        assert ours is not None
        text, events = texts_of(ours[0], is_chat=True)
        expected, others = texts_of(ask_stock(bench, fields, pieces)[0], is_chat=True)
        assert (text, events[-4:]) == (expected, others[-4:])  # the end, usage, and what follows

    compare()


@pytest.mark.parametrize(
    "more",
    [
        {"model": "other"},
        {"max_tokens": 0},
        {"max_tokens": 257},
        {"max_completion_tokens": 256},
        {"temperature": 3.0},
        {"top_p": 0.0},
        {"logprobs": False},
        {"messages": [{"role": "user", "content": "x" * 3000}]},
        {"messages": [{"role": "user", "content": "x" * 300}]},
        {"messages": [{"role": "user", "content": ""}]},
        {"messages": [{"role": "user", "content": "x", "name": "n"}]},
    ],
)
def test_what_is_unusual_or_wrong_is_vllms(bench: Bench, more: dict[str, Any]) -> None:
    async def ask() -> None:
        async with direct(bench) as (_, engine, chats):
            assert chats.prepare(BODY, []) is not None
            assert chats.prepare(BODY | more, []) is None
            engine.engine_core.resources.engine_dead = True
            assert chats.prepare(BODY, []) is None

    asyncio.run(ask())


@pytest.mark.parametrize(
    "name", ["x-data-parallel-rank", "x-session-id", "x-vllm-priority", "traceparent"]
)
def test_headers_that_vllm_reads_are_vllms(name: str) -> None:
    assert find_id([(name.encode(), b"1")]) is None
    assert find_id([(b"x-request-id", b"7"), (b"accept", b"x")]) == "chatcmpl-7"
    assert find_id([]) != find_id([])


def test_a_server_that_limits_or_logs_what_waits_has_no_direct_way(bench: Bench) -> None:
    async def ask() -> None:
        async with direct(bench) as (_, engine, chats):
            assert not has_plain_inlet(engine)  # it has no engine
            engine.engine_core.__class__ = AsyncMPClient
            assert has_plain_inlet(engine)
            prompts, rest = ShortPrompts(bench.ours), (chats.streams, TASKS)
            assert make_direct_chats(engine, chats.plain, prompts, *rest) is not None
            assert make_direct_chats(engine, chats.plain, None, *rest) is None
            engine.log_requests = True
            assert make_direct_chats(engine, chats.plain, prompts, *rest) is None
            engine.engine_core.__class__ = WiredCore

    asyncio.run(ask())


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_ends_with_a_cut_character_is_not_shown_to_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, *, stream: bool
) -> None:
    """vLLM's detokenizer gives such a prompt with the first token, to the client whose it is."""
    prompts = iter(["My PIN is 1234 \ufffd", "Hello"])
    monkeypatch.setattr(direct_chats, "token_ids_of", lambda *_: tokens_of(next(prompts)))

    async def ask(route: WholeAnswers, engine: WiredEngine, number: int) -> str:
        client = Client(BODY | {"stream": stream})
        scope = client.scope(str(number))
        hand_on(scope, client.body)
        answering = asyncio.create_task(route(scope, client.receive, client.send))
        request = await engine.next_request(number)
        for piece in (Piece(tokens_of("O")), Piece(tokens_of("K"), FinishReason.LENGTH)):
            await engine.step({request.request_id: piece}, 30)
        await asyncio.wait_for(answering, 60)
        return client.content.decode()

    async def ask_both() -> list[str]:
        async with direct(bench) as (route, engine, _):
            return [await ask(route, engine, number) for number in range(2)]

    _, second = asyncio.run(ask_both())
    assert "1234" not in second
    assert '"content":"OK"' in second or '"content":"O"' in second
