"""Gives requests to the engine, as vLLM's clients do, without zmq's asyncio layer.

That layer makes a future for each message. A message to an engine never waits, as vLLM bounds no
queue of its sockets, so there is nothing to wait for.
"""

import asyncio
from typing import Any

import zmq
from vllm.outputs import RequestOutput
from vllm.v1.engine import EngineCoreRequest, EngineCoreRequestType
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.core_client import AsyncMPClient
from vllm.v1.engine.exceptions import EngineDeadError

# Plain numbers: what zmq's enumerations make of `|` takes longer than a part takes to send.
_LAST = int(zmq.NOBLOCK)
_MORE = _LAST | int(zmq.SNDMORE)
_ADD = EngineCoreRequestType.ADD.value


class LastOutput:
    """Stands for vLLM's collector, for one who only waits for the last output of a request."""

    def __init__(self) -> None:
        self.output: RequestOutput | Exception | None = None
        self._arrival: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def put(self, output: RequestOutput | Exception) -> None:
        """As vLLM's: nothing takes the place of an error."""
        if not isinstance(self.output, Exception):
            self.output = output
        if not self._arrival.done():
            self._arrival.set_result(None)

    async def get(self) -> RequestOutput:
        await self._arrival
        if isinstance(self.output, Exception):
            raise self.output
        return self.output


class EngineInlet:
    """Of one engine. Everything happens on the event loop, as in the engine's client."""

    def __init__(self, client: AsyncLLM) -> None:
        self._client = client
        self._processor, self._core = client.output_processor, client.engine_core
        self._socket: Any = zmq.Socket.shadow(self._core.input_socket)
        self._num_added = 0

    def add(self, request: EngineCoreRequest, text: str, queue: Any) -> None:
        """What `AsyncLLM._add_request` and `AsyncMPClient.add_request_async` do; `queue` gets the
        outputs. Raises EngineDeadError."""
        core = self._core
        if self._client.errored:  # the engine is dead, or nobody reads what it says
            raise EngineDeadError
        self._processor.add_request(request, text, None, 0, queue)
        request.client_index = core.client_index
        *frames, last = core.encoder.encode(request)
        send = self._socket.send
        for frame in (core.core_engine, _ADD, *frames):
            send(frame, _MORE)
        send(last, _LAST)

    def name(self, request: EngineCoreRequest) -> None:
        """What vLLM's `assign_request_id` does: a name of its own within the engine, whatever the
        request is called outside."""
        self._num_added += 1
        request.external_req_id = request.request_id
        request.request_id = f"{request.request_id}-{self._num_added:x}"


def has_plain_inlet(client: Any) -> bool:
    """Whether nothing but this stands between a request and its engine: one engine, and no limits
    of vLLM's own on what waits for it."""
    scheduler = client.scheduler_config
    return (
        type(client.engine_core) is AsyncMPClient
        and not client.log_requests
        and scheduler.max_num_queued_reqs is None
        and scheduler.max_num_queued_tokens is None
    )
