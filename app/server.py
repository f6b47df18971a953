"""uvicorn on one or two ports, and the signals that end it."""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable
from typing import Any

import uvicorn

from app.core.errors import SettingsError, StartError
from app.http_edge import EdgeLimits

logger = logging.getLogger("gateway")


class Listener(uvicorn.Server):
    """A uvicorn server that leaves the process's signals alone: one place handles them."""

    def __init__(self, app: Any, sock: socket.socket, limits: EdgeLimits, **options: Any) -> None:
        config = uvicorn.Config(
            app,
            loop="uvloop",
            http=limits.protocol(),
            ws="none",
            lifespan="off",
            access_log=False,
            proxy_headers=False,  # nobody asks who the client is, nor how it came here
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=1,  # what still runs then is cancelled, and told so
            **options,
        )
        try:
            config.load()
        except OSError as error:  # ssl.SSLError is one
            reason = error.strerror or type(error).__name__
            raise SettingsError(
                f"server.tls_certificate and server.tls_key cannot be used: {reason}."
            ) from None
        super().__init__(config)
        self._sock = sock
        self._leaving = asyncio.Event()
        host, port = sock.getsockname()[:2]
        scheme = "https" if config.is_ssl else "http"
        self.address = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    def capture_signals(self) -> Any:
        return contextlib.nullcontext()

    async def run_until_stopped(self) -> None:
        await self.serve(sockets=[self._sock])

    def stop(self) -> None:
        self.should_exit = True
        self._leaving.set()

    async def main_loop(self) -> None:
        """As uvicorn's, which wakes ten times a second to look whether it is to end; what else it
        does then, the date in the headers, is due once a second."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._leaving.wait()


def bind(host: str, port: int, setting: str) -> socket.socket:
    """A listening socket, so that a port that is taken is said before anything is loaded."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(2048)
    except OSError as error:
        sock.close()
        raise StartError(
            f"{setting}: cannot listen on {host} port {port} ({error.strerror}); choose another."
        ) from None
    return sock


def on_termination(act: Callable[[], None]) -> None:
    """Call `act` on SIGTERM and SIGINT, each time one comes."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, act)
