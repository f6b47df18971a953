"""vLLM's engine client and ours around it, complete but for the engine: what is put on the wire for
it can be read, and it says what it is told to."""

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import zmq.asyncio
from vllm.v1.engine import EngineCoreOutputs, EngineCoreRequest, EngineCoreRequestType
from vllm.v1.engine.core_client import AsyncMPClient
from vllm.v1.engine.input_processor import InputProcessor
from vllm.v1.engine.output_processor import OutputProcessor
from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder

from app.engine.metered import MeteredAsyncLLM
from tests.unit.engine.fast_path.byte_tokenizer import byte_tokenizer
from tests.unit.engine.fast_path.recorded_engine import TURNS, Piece
from tests.unit.engine.fast_path.test_engine_statistics import Recorder

_ENGINE = b"\x00\x00"
_ADDRESS = "inproc://engine"
TASKS = ("generate",)


class WiredCore(AsyncMPClient):  # type: ignore[misc]
    """Made on an event loop; `added` and `aborted`: what the engine has been sent, in order."""

    def __init__(self) -> None:  # not super's, which starts an engine
        self._context = zmq.asyncio.Context()
        self.input_socket = self._context.socket(zmq.ROUTER)
        self.input_socket.bind(_ADDRESS)
        self._engine: Any = zmq.Context(self._context).socket(zmq.DEALER)
        self._engine.setsockopt(zmq.IDENTITY, _ENGINE)
        self._engine.connect(_ADDRESS)
        self._engine.send(b"")  # so that it is known
        self.client_index, self.core_engine = 0, _ENGINE
        self.encoder = MsgpackEncoder()
        self.resources: Any = SimpleNamespace(engine_dead=False, output_queue_task=True)
        self.steps: asyncio.Queue[EngineCoreOutputs | Exception] = asyncio.Queue()
        self.added: list[EngineCoreRequest] = []
        self.aborted: list[str] = []
        self._decoder = MsgpackDecoder(EngineCoreRequest)

    def shutdown(self, timeout: float | None = None) -> None:
        for socket in (self.input_socket, self._engine):
            socket.close(linger=0)
        self._context.term()

    async def connected(self) -> None:
        await self.input_socket.recv_multipart()

    async def get_output_async(self) -> EngineCoreOutputs:
        step = await self.steps.get()
        if isinstance(step, Exception):
            raise step
        return step

    def read_wire(self) -> None:
        while self._engine.poll(0):
            kind, *frames = self._engine.recv_multipart()
            if kind == EngineCoreRequestType.ADD.value:
                self.added.append(self._decoder.decode(frames))
            else:
                assert kind == EngineCoreRequestType.ABORT.value
                self.aborted += MsgpackDecoder(list[str]).decode(frames)


class WiredEngine(MeteredAsyncLLM):
    """From `generate` to the wire it is vLLM's (and ours)."""

    def __init__(self, config: Any, renderer: Any) -> None:
        self.vllm_config, self.renderer = config, renderer
        self.model_config, self.scheduler_config = config.model_config, config.scheduler_config
        self.observability_config = config.observability_config
        self.input_processor = InputProcessor(config, renderer)
        self.output_processor = OutputProcessor(byte_tokenizer(), log_stats=True)
        self.engine_core: WiredCore = WiredCore()
        self.output_handler: Any = None
        self.admission_stats = None
        self.log_stats, self.log_requests = True, False
        self.logger_manager: Any = Recorder()
        self._supported_tasks = TASKS
        self._clock_s = 1.0

    async def __aenter__(self) -> "WiredEngine":
        await self.engine_core.connected()
        self._run_output_handler()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.output_handler.cancel()
        self.engine_core.shutdown()

    def shutdown(self, timeout: float | None = None) -> None:
        pass

    async def next_request(self, number: int = 0) -> EngineCoreRequest:
        """The request that was sent after so many others."""
        core = self.engine_core
        while len(core.added) <= number:
            core.read_wire()
            await asyncio.sleep(0)
        return core.added[number]

    async def step(self, pieces: Mapping[str, Piece], turns: int = TURNS) -> None:
        """What the engine says in one step, by the id that it was given."""
        self._clock_s += 0.5
        outputs = [piece.output(name) for name, piece in pieces.items()]
        step = EngineCoreOutputs(outputs=outputs, timestamp=self._clock_s)
        self.engine_core.steps.put_nowait(step)
        for _ in range(turns):
            await asyncio.sleep(0)
