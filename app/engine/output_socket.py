"""Reads the engine's outputs off their socket without zmq's asyncio layer.

That layer spends 120 µs on each message that it waits for, which is one per step of the engine: two
microseconds for each token of 64 streams. vLLM's task stays; only what it awaits is replaced.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import zmq

_NOBLOCK = int(zmq.NOBLOCK)  # a plain number: with the enumeration, `|` takes a microsecond


class OutputSocket:
    """`socket` is only received from, and by one task."""

    def __init__(self, socket: Any) -> None:
        self._socket: Any = zmq.Socket.shadow(socket)
        self._arrival: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._has_reader = False
        self._num_messages = self._num_heard = 0

    async def recv_multipart(self, flags: int = 0, copy: bool = True) -> Sequence[Any]:
        """As the socket's own."""
        if not self._has_reader:
            self._has_reader = True
            self._loop.add_reader(self._socket.FD, self._note_arrival)
        while True:
            try:
                parts: Sequence[Any] = self._socket.recv_multipart(flags | _NOBLOCK, copy=copy)
                self._num_messages += 1
                return parts
            except zmq.Again:
                self._arrival = self._loop.create_future()
                await self._arrival

    async def hear(self, ask: Callable[[], Awaitable[object]]) -> None:
        """Returns when something has come since the last call. Where nothing has, `ask` is to bring
        an answer."""
        if self._num_messages == self._num_heard:
            await ask()
        self._num_heard = self._num_messages

    def _note_arrival(self) -> None:
        """The descriptor says that something happened, not that a message is whole."""
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)


def read_directly(client: Any) -> OutputSocket:
    """From the next message on. Call it on the client's event loop."""
    socket = client.engine_core.resources.output_socket
    direct = OutputSocket(socket)
    socket.recv_multipart = direct.recv_multipart
    return direct
