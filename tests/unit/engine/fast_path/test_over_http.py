"""Direct streams on real connections, through every middleware."""

import asyncio
import json
import socket
import ssl
import subprocess
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from vllm.v1.engine import EngineCoreEvent, EngineCoreEventType, FinishReason
from vllm.v1.engine.exceptions import EngineDeadError

from app import http_edge
from app.engine.fast_path.direct_stream import DirectStream
from app.http_edge import ChunkedResponse
from tests.unit.engine.fast_path.byte_tokenizer import tokens_of
from tests.unit.engine.fast_path.fast_client import USAGE, texts_of
from tests.unit.engine.fast_path.recorded_engine import TURNS, Piece, internal_id
from tests.unit.engine.fast_path.served import PATHS, Connection, Served, connected, with_served

CHAT = "/v1/chat/completions"
END = Piece(tokens_of("."), FinishReason.LENGTH)


class BlockedResponse(ChunkedResponse):
    """Whose client never reads."""

    is_blocked = property(lambda _: True, lambda *_: None)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The text of each direct write."""
    texts: list[str] = []
    write = DirectStream.write

    def noted(stream: DirectStream) -> None:
        texts.append(stream.text or "")
        write(stream)

    monkeypatch.setattr(DirectStream, "write", noted)
    return texts


def pieces_of(text: str) -> list[Piece]:
    return [Piece([token]) for token in tokens_of(text)]


def text_in(body: bytes, path: str = CHAT) -> str:
    text: str = texts_of(body, is_chat=path == CHAT)[0]
    return text


async def stream(gateway: Served, connection: Connection, path: str, text: str) -> bytes:
    """The body of a whole answer."""
    connection.ask(path, **USAGE)
    name = await gateway.next_request()
    await gateway.say(name, *pieces_of(text), END)
    return await connection.answer()


def metric(gateway: Served, name: str, path: str = CHAT) -> float | None:
    registry = gateway.resources.metrics.registry
    return registry.get_sample_value(name, {"route": path})


@pytest.mark.parametrize("path", PATHS)
def test_the_middle_goes_past_asgi_and_is_counted_all_the_same(
    path: str, written: list[str]
) -> None:
    async def use(gateway: Served) -> None:
        async with connected(gateway.port) as connection:
            body = await stream(gateway, connection, path, "Hello, you")
        assert text_in(body, path) == "Hello, you."
        assert "".join(written) == "ello, you"
        assert b'"completion_tokens":11' in body
        [record] = gateway.usage
        assert (record.prompt_tokens, record.completion_tokens) == (3, 11)
        assert record.finish_reason == "length"
        gaps = metric(gateway, "gateway_inter_token_latency_seconds_count", path)
        assert gaps == len(written) + 1  # the end comes in one

    with_served(use)


def test_a_connection_is_used_again() -> None:
    async def use(gateway: Served) -> None:
        async with connected(gateway.port) as connection:
            for path in [*PATHS, *PATHS]:
                body = await stream(gateway, connection, path, "again")
                assert text_in(body, path) == "again."

    with_served(use)


def test_tls(tmp_path: Path, written: list[str]) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    trust = ssl.create_default_context(cafile=str(certificate))

    async def use(gateway: Served) -> None:
        async with connected(gateway.port, trust) as connection:
            body = await stream(gateway, connection, CHAT, "secret words")
            assert text_in(body) == "secret words."

    with_served(use, certificate=(str(certificate), str(key)))
    assert "".join(written) == "ecret words"


def test_a_client_that_leaves_frees_its_request_at_once() -> None:
    async def use(gateway: Served) -> None:
        async with connected(gateway.port) as connection:
            connection.ask()
            name = await gateway.next_request()
            await gateway.say(name, *pieces_of("some"))
            await connection.chunk_with(b'"content":"e"')
        await asyncio.wait_for(gateway.engine.until_aborted(name), 10)
        await gateway.say(name, *pieces_of("late"))
        assert not gateway.engine.output_processor.request_states

    with_served(use)


def test_streams_at_the_same_time_do_not_mix(written: list[str]) -> None:
    async def use(gateway: Served) -> None:
        names: list[str] = []
        for each in opened:
            each.ask()
            names.append(await gateway.next_request(names))
        for letter in "abcdef":
            step = {name: Piece(tokens_of(f"{place}{letter}")) for place, name in enumerate(names)}
            await gateway.engine.step(step)
        await gateway.engine.step(dict.fromkeys(names, END))
        for place, each in enumerate(opened):
            assert text_in(await each.answer()) == "".join(f"{place}{c}" for c in "abcdef") + "."

    async def connect(gateway: Served) -> None:
        async with AsyncExitStack() as stack:
            for _ in range(8):
                opened.append(await stack.enter_async_context(connected(gateway.port)))
            await use(gateway)

    opened: list[Connection] = []
    with_served(connect)
    assert len(written) == 8 * 5


def test_an_unusual_output_is_vllms_and_keeps_its_place(written: list[str]) -> None:
    preempted = [EngineCoreEvent(EngineCoreEventType.PREEMPTED, 1.0)]

    async def use(gateway: Served) -> None:
        async with connected(gateway.port) as connection:
            connection.ask(**USAGE)
            name = await gateway.next_request()
            await gateway.say(name, *pieces_of("one"))
            for turns in (TURNS, 0):  # alone, and with what comes right after it
                unusual = Piece(tokens_of("two"), events=preempted)
                await gateway.say(name, unusual, *pieces_of("3"), turns=turns)
            await asyncio.sleep(0.01)
            await gateway.say(name, *pieces_of("four"), END)
            body = await connection.answer()
        assert text_in(body) == "onetwo3two3four."
        assert b'"completion_tokens":16' in body
        assert "two" not in written
        assert written[-1] == "r"  # direct again

    with_served(use)


def test_a_fault_ends_one_stream_with_an_error_event_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    take = DirectStream.take

    def fail_at_b(stream: DirectStream, token_ids: list[int]) -> int | None:
        if token_ids == tokens_of("b"):
            raise ZeroDivisionError
        return take(stream, token_ids)

    monkeypatch.setattr(DirectStream, "take", fail_at_b)

    async def use(gateway: Served) -> None:
        async with connected(gateway.port) as first, connected(gateway.port) as second:
            first.ask()
            broken = await gateway.next_request()
            second.ask()
            whole = await gateway.next_request([broken])
            for letters in ("xx", "ax", "bx", "cx"):
                both = zip((broken, whole), letters, strict=True)
                await gateway.engine.step({name: Piece(tokens_of(c)) for name, c in both})
                await asyncio.sleep(0.005)
            body = await first.answer()
            assert body.endswith(b"data: [DONE]\n\n")
            assert json.loads(body.split(b"\n\n")[-3].removeprefix(b"data: "))["error"]
            assert text_in(body) == "xa"
            assert internal_id(broken) in gateway.engine.engine_core.aborted
            await gateway.say(whole, END)
            assert text_in(await second.answer()) == "xxxx."
        async with connected(gateway.port) as connection:
            assert text_in(await stream(gateway, connection, CHAT, "next")) == "next."

    with_served(use)


def test_a_fault_of_a_write_ends_that_stream_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: DirectStream) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(DirectStream, "write", fail)

    async def use(gateway: Served) -> None:
        async with connected(gateway.port) as connection:
            connection.ask()
            name = await gateway.next_request()
            await gateway.say(name, *pieces_of("ab"))
            body = await connection.answer()
        assert b'"error"' in body
        assert body.endswith(b"data: [DONE]\n\n")

    with_served(use)


def test_an_engine_that_dies_tells_every_stream() -> None:
    async def use(gateway: Served) -> None:
        async with connected(gateway.port) as connection:
            connection.ask()
            name = await gateway.next_request()
            await gateway.say(name, *pieces_of("abc"))
            gateway.engine.engine_core.steps.put_nowait(EngineDeadError())
            body = await connection.answer()
        assert text_in(body) == "abc"
        assert b'"error"' in body
        assert body.endswith(b"data: [DONE]\n\n")

    with_served(use)


def test_what_is_not_written_yet_stands_before_the_error_and_does_not_hide_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_edge, "ChunkedResponse", BlockedResponse)

    async def use(gateway: Served) -> None:
        async with connected(gateway.port) as connection:
            connection.ask()
            name = await gateway.next_request()
            await gateway.say(name, *pieces_of("abc"))
            gateway.engine.engine_core.steps.put_nowait(EngineDeadError())
            body = await connection.answer()
        assert text_in(body) == "abc"
        error = json.loads(body.split(b"\n\n")[-3].removeprefix(b"data: "))["error"]
        assert error["message"] == "The server failed to answer this request."
        assert gateway.usage[-1].finish_reason == error["code"]

    with_served(use)


def test_comments_fill_silences_alone() -> None:
    async def use(gateway: Served) -> None:
        async with connected(gateway.port) as connection:
            connection.ask()
            name = await gateway.next_request()
            longest_s = await gateway.say(name, *pieces_of("quick" * 10), pause_s=0.01)
            await asyncio.sleep(0.8)
            await gateway.say(name, END)
            body = await connection.answer()
        before, comment, after = body.partition(b": keep-alive\n\n")
        assert comment
        assert text_in(before + after) == "quick" * 10 + "."
        if longest_s < 0.3:  # else the machine was too busy to be quick
            assert text_in(before) == "quick" * 10

    with_served(use, keep_alive_s=0.4)


class Idle:
    """A client that does not read, with buffers so small that it shows."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect(("127.0.0.1", port))

    async def connection(self) -> Connection:
        reader, writer = await asyncio.open_connection(sock=self.socket, limit=4096)
        return Connection(reader, writer)


def buffered(gateway: Served) -> int:
    """Bytes that wait in the process for the slowest connection."""
    connections: Any = gateway.listener.server_state.connections
    return max((int(each.transport.get_write_buffer_size()) for each in connections), default=0)


def test_a_client_that_never_reads_costs_bounded_memory_and_is_cut_off() -> None:
    async def use(gateway: Served) -> None:
        idle = Idle(gateway.port)
        connection = await idle.connection()
        connection.ask()
        name = await gateway.next_request()
        most = 0
        for _ in range(60):
            await gateway.say(name, *[Piece(tokens_of("x" * 100))] * 30, turns=1)
            await asyncio.sleep(0.001)
            most = max(most, buffered(gateway))
        assert 65_536 < most < 2 * 65_536
        async with connected(gateway.port) as other:  # nobody waits for it
            assert text_in(await stream_beside(gateway, other, name)) == "quick."
        await asyncio.wait_for(gateway.engine.until_aborted(name), 10)
        connection.writer.close()
        idle.socket.close()

    with_served(use, send_timeout_s=1)


async def stream_beside(gateway: Served, connection: Connection, other: str) -> bytes:
    connection.ask()
    name = await gateway.next_request([other])
    await gateway.say(name, *pieces_of("quick"), END)
    return await connection.answer()


def test_a_client_that_reads_late_gets_the_whole_text() -> None:
    async def use(gateway: Served) -> None:
        connection = await Idle(gateway.port).connection()
        connection.ask()
        name = await gateway.next_request()
        words = [f"word {number} " * 30 for number in range(1000)]
        await gateway.say(name, *(Piece(tokens_of(word)) for word in words), turns=1)
        await gateway.say(name, END)
        body = await connection.answer()
        connection.writer.close()
        assert text_in(body) == "".join(words) + "."
        assert body.count(b"data: {") < len(words)

    with_served(use)
