"""Found by every Python process of a server under test: writes down each connection that it opens
and each name that it looks up, from Python or by uvloop, into the file that SOCKET_LOG names."""

import os
import sys
from typing import Any

EVENTS = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")


def note(what: str, *details: object) -> None:
    descriptor = os.open(os.environ["SOCKET_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{os.getpid()} {what} {details}\n".encode())
    os.close(descriptor)


def listen(event: str, arguments: tuple[Any, ...]) -> None:
    if event in EVENTS:
        note(event, *arguments)


def watch_uvloop() -> None:
    """Its calls go past Python's own, so they are noted before they are made."""
    import uvloop

    class Loop(uvloop.Loop):  # type: ignore[misc]
        async def create_connection(self, *arguments: Any, **options: Any) -> Any:
            note("create_connection", arguments[1:])
            return await super().create_connection(*arguments, **options)

        async def getaddrinfo(self, *arguments: Any, **options: Any) -> Any:
            note("getaddrinfo", arguments)
            return await super().getaddrinfo(*arguments, **options)

        async def sock_connect(self, *arguments: Any) -> Any:
            note("sock_connect", arguments[1:])
            return await super().sock_connect(*arguments)

        async def create_datagram_endpoint(self, *arguments: Any, **options: Any) -> Any:
            note("create_datagram_endpoint", options)
            return await super().create_datagram_endpoint(*arguments, **options)

    uvloop.Loop = Loop


if "SOCKET_LOG" in os.environ:
    sys.addaudithook(listen)
    watch_uvloop()
