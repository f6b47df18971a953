"""What an application says, and what is written for it; the connection is a list of writes."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from app.http_exchange import Exchange

Application = Any


def start(*headers: tuple[bytes, bytes], status: int = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}


def part(body: bytes, *, more_body: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more_body}


def run(application: Application, method: str = "GET") -> tuple[list[bytes], bool]:
    """What is written, and whether the connection is closed then."""

    async def exchange() -> tuple[list[bytes], bool]:
        written: list[bytes] = []
        closed: list[bool] = []
        silent = SimpleNamespace(error=lambda *_, **__: None)
        cycle = Exchange(
            scope={"method": method, "type": "http"},  # type: ignore[typeddict-item]
            transport=SimpleNamespace(write=written.append, close=lambda: closed.append(True)),  # type: ignore[arg-type]
            flow=SimpleNamespace(write_paused=False),  # type: ignore[arg-type]
            logger=silent,  # type: ignore[arg-type]
            access_logger=silent,  # type: ignore[arg-type]
            access_log=False,
            default_headers=[(b"date", b"today")],
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=True,
            on_response=lambda: None,
        )
        await cycle.run_asgi(application)
        return written, bool(closed)

    return asyncio.run(exchange())


def saying(*messages: dict[str, Any]) -> Application:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    return application


def test_a_whole_answer_is_one_write() -> None:
    (written,), is_closed = run(saying(start((b"Content-Length", b"2")), part(b"ok")))
    assert written == b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-length: 2\r\n\r\nok"
    assert not is_closed


def test_the_first_part_of_a_stream_goes_out_with_its_head_and_the_others_at_once() -> None:
    written, _ = run(saying(start(), part(b"one", more_body=True), part(b"two")))
    head, _, first = written[0].partition(b"\r\n\r\n")
    assert head.endswith(b"transfer-encoding: chunked")
    assert [first, *written[1:]] == [b"3\r\none\r\n", b"3\r\ntwo\r\n0\r\n\r\n"]


@pytest.mark.parametrize(
    ("method", "status", "body"), [("HEAD", 200, b"x"), ("GET", 204, b""), ("GET", 304, b"")]
)
def test_what_has_no_body_is_a_head(method: str, status: int, body: bytes) -> None:
    written, is_closed = run(saying(start(status=status), part(body)), method)
    assert b"".join(written).endswith(b"date: today\r\n\r\n")
    assert not is_closed


def test_a_connection_that_is_to_be_closed_is_closed_after_the_answer() -> None:
    close = (b"connection", b"close")
    assert run(saying(start((b"content-length", b"1"), close), part(b"x")))[1]


@pytest.mark.parametrize(
    "application",
    [
        saying(start()),
        saying(start((b"content-length", b"1"), (b"a", b"b\r\nset-cookie: c")), part(b"x")),
        saying(start((b"a: b\r\nc", b"d")), part(b"x")),
        saying(start((b"content-length", b"1")), part(b"xx")),
        saying(part(b"x")),
        saying(start(), start()),
        saying(),
    ],
    ids=["no_body", "value", "name", "too_long", "body_first", "twice", "nothing"],
)
def test_a_wrong_answer_of_which_nothing_is_written_yet_is_a_500(application: Application) -> None:
    written, is_closed = run(application)
    assert b"".join(written).startswith(b"HTTP/1.1 500 ")
    assert b"cookie" not in b"".join(written)
    assert is_closed


@pytest.mark.parametrize(
    "application",
    [
        saying(start((b"content-length", b"3")), part(b"x", more_body=True), part(b"y")),
        saying(start(), part(b"x", more_body=True)),
        saying(start(), part(b"x", more_body=True), start()),
    ],
    ids=["too_short", "no_end", "twice"],
)
def test_an_answer_that_goes_wrong_later_costs_the_connection(application: Application) -> None:
    written, is_closed = run(application)
    assert b"500" not in b"".join(written)
    assert is_closed


def test_nothing_is_written_to_a_client_that_is_gone() -> None:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        send.__self__.disconnected = True
        await send(start())
        await send(part(b"x"))

    assert run(application) == ([], False)
