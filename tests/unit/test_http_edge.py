"""Raw bytes on a real socket, with a small application behind the service's own listener."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from app.http_edge import EdgeLimits
from app.server import Listener, bind

LIMITS = EdgeLimits(
    header_timeout_s=30,  # where time is not what is asked about, a busy machine is no fault
    max_header_bytes=2000,
    max_headers=20,
    max_connections=5,
    send_timeout_s=2,
)
HASTY = replace(LIMITS, header_timeout_s=0.3)
GOOD = b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    headers = [(b"content-length", str(len(str(size))).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": str(size).encode()})


def with_listener(
    use: Callable[[int], Awaitable[Any]],
    app: Any = echo,
    limits: EdgeLimits = LIMITS,
    send_bytes: int | None = None,  # that the system takes and has not sent
    **options: Any,
) -> Any:
    async def run() -> Any:
        sock = bind("127.0.0.1", 0, "a port")
        if send_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_bytes)
        listener = Listener(app, sock, limits, **options)
        serving = asyncio.create_task(listener.run_until_stopped())
        try:
            async with asyncio.timeout(60):
                return await use(sock.getsockname()[1])
        finally:
            listener.stop()
            await serving

    return asyncio.run(run())


def exchange(*chunks: bytes, pause_s: float = 0, limits: EdgeLimits = LIMITS) -> bytes:
    """All that comes back on one connection until the server closes it."""

    async def use(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        reading = asyncio.create_task(reader.read())
        for chunk in chunks:
            if not reading.done():
                writer.write(chunk)
                await asyncio.sleep(pause_s)
        try:
            return await reading
        finally:
            writer.close()

    answer: bytes = with_listener(use, limits=limits)
    return answer


def refused(answer: bytes, status: int) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"connection: close" in head
    error: dict[str, Any] = json.loads(body)["error"]
    return error


def test_a_request_within_the_limits_is_served_and_the_next_one_too() -> None:
    large = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9000\r\n\r\n" + b"x" * 9000
    answer = exchange(
        GOOD, large, GOOD, b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n", pause_s=0.1
    )
    assert answer.count(b"HTTP/1.1 200 OK") == 4
    assert b"9000" in answer


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\na: " + b"x" * 3000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\na: " + b"x" * 3000,
        b"GET /" + b"x" * 3000,
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 21 + b"\r\n",
    ],
)
def test_a_head_that_is_too_large_is_a_431(head: bytes) -> None:
    assert refused(exchange(head), 431)["code"] == "headers_too_large"


def test_a_head_that_comes_too_slowly_is_a_408() -> None:
    slow = [b"GET / HTTP/1.1\r\n", *[b"a: b\r\n"] * 5]
    assert refused(exchange(*slow, pause_s=0.15, limits=HASTY), 408)["code"] == "header_timeout"


def test_a_later_head_is_timed_like_the_first() -> None:
    answer = exchange(GOOD, b"GET / HT", pause_s=0.1, limits=HASTY)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"HTTP/1.1 408" in answer


def test_empty_lines_do_not_keep_a_connection() -> None:
    answer = exchange(GOOD, *[b"\r\n"] * 6, pause_s=0.1, limits=HASTY)
    assert b"HTTP/1.1 408" in answer


def test_a_connection_outlives_its_pauses_and_is_closed_when_nothing_more_comes() -> None:
    async def use(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(5):  # longer than the pause that is allowed, all together
            writer.write(GOOD)
            await reader.readuntil(b"\r\n\r\n0")
            await asyncio.sleep(0.5)
        try:
            return await reader.read()
        finally:
            writer.close()

    assert with_listener(use, timeout_keep_alive=2) == b""


def test_a_connection_that_says_nothing_is_closed_without_a_word() -> None:
    assert exchange(limits=HASTY) == b""


@pytest.mark.parametrize(
    "head",
    [
        b"NONSENSE\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\na : b\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: identity\r\n\r\nx",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\nffffffffffffffffff\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT a:443 HTTP/1.1\r\nhost: a\r\n\r\n",
    ],
)
def test_what_is_no_http_is_a_400_in_the_envelope(head: bytes) -> None:
    assert refused(exchange(head), 400)["code"] == "invalid_http"


H2C = b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"
SIZED = b"POST / HTTP/1.1\r\n" + H2C + b"content-length: 9\r\n\r\n" + b"x" * 9
CHUNKED = b"POST / HTTP/1.1\r\n" + H2C + b"transfer-encoding: chunked\r\n\r\n9\r\n"
CHUNKED += b"x" * 9 + b"\r\n0\r\n\r\n"
LAST = b"POST / HTTP/1.1\r\nconnection: close\r\ncontent-length: 3\r\n\r\nabc"


@pytest.mark.parametrize("request_bytes", [SIZED, CHUNKED], ids=["sized", "chunked"])
@pytest.mark.parametrize("num_bytes", [1, 7, 1000])
def test_an_upgrade_that_is_offered_does_not_cost_the_body(
    request_bytes: bytes, num_bytes: int
) -> None:
    """As Java's own client offers it with its first request."""
    whole = request_bytes * 2 + LAST
    answer = exchange(
        *(whole[start : start + num_bytes] for start in range(0, len(whole), num_bytes))
    )
    assert [each[-1:] for each in answer.split(b"HTTP/1.1 200 OK")[1:]] == [b"9", b"9", b"3"]


def test_upgrades_by_the_hundred_are_read_one_after_the_other() -> None:
    greedy = b"GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
    assert exchange(greedy * 250 + LAST).count(b"HTTP/1.1 200 OK") == 251


def test_of_requests_by_the_thousand_some_wait_and_those_are_answered() -> None:
    num_sent, num_taken = 20_000, 0
    goes_on = asyncio.Event()

    async def count(scope: Any, receive: Any, send: Any) -> None:
        nonlocal num_taken
        num_taken += 1
        await goes_on.wait()
        await echo(scope, receive, send)

    async def ask(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GOOD * num_sent)
        await asyncio.sleep(0.2)
        goes_on.set()
        with contextlib.suppress(ConnectionError):  # what was not read is thrown away
            while data := await reader.read(65_536):
                answers.append(data)
        writer.close()
        return b"".join(answers)

    answers: list[bytes] = []
    answer = with_listener(ask, count)
    num_answered = answer.count(b"HTTP/1.1 200 OK")
    assert 250 < num_answered == num_taken < 300
    assert answer.rpartition(b"HTTP/1.1")[2].count(b"connection: close") == 1


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n" + H2C + b"a: " + b"x" * 2000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + H2C + b"a: b\r\n" * 18 + b"\r\n",
    ],
)
def test_an_upgrade_opens_no_larger_head(head: bytes) -> None:
    assert refused(exchange(head), 431)["code"] == "headers_too_large"


def test_a_trailer_is_no_header() -> None:
    """What comes before a service looks at headers, and never at trailers."""

    async def say_headers(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": repr(scope["headers"]).encode()})

    async def use(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = b"POST / HTTP/1.1\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
        writer.write(head + b"1\r\nx\r\n0\r\nauthorization: Bearer sk\r\n\r\n")
        try:
            return await reader.read()
        finally:
            writer.close()

    answer: bytes = with_listener(use, say_headers)
    assert b"transfer-encoding" in answer
    assert b"authorization" not in answer


def test_trailers_that_are_too_large_are_a_431() -> None:
    chunks = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
    assert refused(exchange(chunks + b"a: b\r\n" * 30), 431)["code"] == "headers_too_large"


@pytest.mark.parametrize("rest", [b"NONSENSE\r\n\r\n", b"GET /" + b"x" * 3000, b"GET / HT"])
def test_what_follows_a_whole_request_does_not_cost_it_its_answer(rest: bytes) -> None:
    """A length that says less than was sent, say; the answer takes longer than a head may."""

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(2 * HASTY.header_timeout_s)
        await echo(scope, receive, send)

    async def use(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc" + rest)
        answer = await reader.read()
        writer.close()
        return answer

    answer: bytes = with_listener(use, slow, HASTY)
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.count(b"HTTP/1.1") == 1


def test_anthropics_route_gets_anthropics_envelope() -> None:
    answer = exchange(b"GET /v1/messages HTTP/1.1\r\n" + b"a: b\r\n" * 21 + b"\r\n")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["type"] == "error"


def test_one_connection_too_many_is_a_503_and_the_others_go_on() -> None:
    async def use(port: int) -> None:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
        await asyncio.sleep(0.05)
        reader, late = await asyncio.open_connection("127.0.0.1", port)
        answer = await reader.read()
        assert refused(answer, 503)["code"] == "too_many_connections"
        assert b"retry-after" in answer
        reader, writer = idle[0]
        writer.write(GOOD)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        for each in (late, *(writer for _, writer in idle)):
            each.close()

    with_listener(use)


@pytest.mark.parametrize("rest", [b"a", b"abc"])
def test_the_rest_of_a_body_that_nobody_waited_for_keeps_no_connection(rest: bytes) -> None:
    async def hasty(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async def use(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        writer.write(rest)
        assert await reader.read() == b""  # it is closed
        writer.close()

    with_listener(use, hasty, timeout_keep_alive=1)


def test_a_request_that_began_behind_another_is_not_cut_off_as_idle() -> None:
    delays_s = iter((0.2, 1.6))

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(next(delays_s))
        await echo(scope, receive, send)

    async def use(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GOOD + GOOD[:10])
        assert (await reader.readuntil(b"\r\n\r\n0")).startswith(b"HTTP/1.1 200")
        writer.write(GOOD[10:])
        assert (await reader.readuntil(b"\r\n\r\n0")).startswith(b"HTTP/1.1 200")
        writer.close()

    with_listener(use, slow, timeout_keep_alive=1)


@pytest.mark.parametrize("pause_s", [0, 0.05])
def test_a_client_that_leaves_ends_what_runs_before_its_next_request_too(pause_s: float) -> None:
    was_told = asyncio.Event()
    num_asked = 0

    async def wait_for_end(_: Any, receive: Any, __: Any) -> None:
        nonlocal num_asked
        num_asked += 1
        while (await receive())["type"] != "http.disconnect":
            pass
        was_told.set()

    async def ask_twice_and_leave(port: int) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GOOD)
        await asyncio.sleep(pause_s)
        writer.write(GOOD)
        await asyncio.sleep(0.05)
        assert not was_told.is_set()
        writer.close()
        await asyncio.wait_for(was_told.wait(), 10)

    with_listener(ask_twice_and_leave, wait_for_end)
    assert num_asked == 1


def test_no_other_process_gets_the_listening_socket() -> None:
    """One that ended after the gateway would keep the port, and its next start would fail."""
    with bind("127.0.0.1", 0, "a port") as sock:
        assert not sock.get_inheritable()
