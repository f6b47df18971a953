"""Carries the steps of the ledger to Redis and their answers back.

Over one connection and in the order in which they were given; as many together as have come up
while the ones before were on their way. A step is asked a second time where the connection broke.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError

from app.shared_limits.address import RedisAddress

logger = logging.getLogger("gateway.limits")

SCRIPT = Path(__file__).with_name("ledger.lua").read_text(encoding="utf-8")
PROBE_INTERVAL_S = 0.25
_MOST_TOGETHER = 256

Argument = str | int | float
Command = tuple[Sequence[str], Sequence[Argument]]  # keys, and what the script takes
Reply = list[Any]
ReplyFuture = asyncio.Future[Reply]


class RedisAway(Exception):
    """Redis did not do it, or did not say that it has done it (`Step.was_sent`)."""


class CourierObserver(Protocol):
    """What the metrics hear."""

    def redis_up(self, is_up: bool) -> None: ...


@dataclass(slots=True, eq=False)
class Step:
    """`was_sent`: it may be done, or yet be done, whatever became of the reply."""

    keys: Sequence[str]
    arguments: Sequence[Argument]
    reply: ReplyFuture = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    was_sent: bool = False

    def fail(self, reason: str) -> None:
        if not self.reply.done():
            self.reply.set_exception(RedisAway(reason))
            self.reply.exception()  # it may be that nobody waits


class Courier:
    """`came_back` is set whenever Redis answers again. `probe` is a step that changes nothing."""

    def __init__(
        self,
        address: RedisAddress,
        timeout_s: float,
        probe: Command,
        observer: CourierObserver,
        script: str = SCRIPT,
    ) -> None:
        self.address, self.timeout_s, self.observer = address, timeout_s, observer
        self.script = script
        self.came_back = asyncio.Event()
        self.is_up = True
        self._is_doubtful = True
        self._down_since_s = 0.0
        self._probe = probe
        self._connection: AbstractConnection | None = None
        self._digest = ""
        self._waiting: list[Step] = []
        self._wake = asyncio.Event()

    @property
    def down_s(self) -> float:
        return 0.0 if self.is_up else monotonic() - self._down_since_s

    def post(self, step: Step) -> None:
        """Send it in its turn; while Redis is away it has failed at once."""
        if self.is_up:
            self._waiting.append(step)
            self._wake.set()
        else:
            step.fail("Redis is away")

    async def wait(self, step: Step) -> Reply:
        """Its reply. Raises RedisAway. A step that nobody waits for any more is not sent."""
        too_late = asyncio.get_running_loop().call_later(
            self.timeout_s, step.fail, "no answer in time"
        )
        try:
            return await step.reply
        finally:
            too_late.cancel()

    async def run(self) -> None:
        """For as long as the service runs."""
        try:
            while True:
                if self._is_doubtful:
                    await self._look()
                else:
                    await self._wake.wait()
                    self._wake.clear()
                    await self._carry()
        finally:
            self._fail_waiting("the service ends")
            await self.disconnect()

    async def connect(self) -> AbstractConnection:
        """Anew, and make sure that the ledger can be written. Raises RedisError, OSError or
        TimeoutError."""
        async with asyncio.timeout(self.timeout_s):
            await self.disconnect()
            (answer,) = await self._exchange([Step(*self._probe)])
            if isinstance(answer, ResponseError):
                raise answer
            connection = await self._connected()
        self._note_up()
        return connection

    async def _look(self) -> None:
        """Whether it is away, or only one connection was lost or one answer an error."""
        try:
            await self.connect()
        except Exception as error:  # noqa: BLE001 (whatever went wrong there, Redis was not asked)
            if self.is_up:
                self._note_down(reason_of(error))
            await asyncio.sleep(PROBE_INTERVAL_S)

    def _note_up(self) -> None:
        if not self.is_up:
            extra = {"redis": self.address.shown, "away_s": round(self.down_s, 1)}
            logger.info("Redis answers again", extra=extra)
        self.is_up, self._is_doubtful = True, False
        self.observer.redis_up(True)
        self.came_back.set()
        self._wake.set()

    def _note_down(self, reason: str) -> None:
        self.is_up, self._down_since_s = False, monotonic()
        self.observer.redis_up(False)
        logger.error("Redis is away", extra={"redis": self.address.shown, "reason": reason})
        self._fail_waiting(reason)

    def _fail_waiting(self, reason: str) -> None:
        for step in self._waiting:
            step.fail(reason)
        self._waiting.clear()

    async def _carry(self) -> None:
        while self._waiting and not self._is_doubtful:
            steps = self._waiting[:_MOST_TOGETHER]
            del self._waiting[:_MOST_TOGETHER]
            steps = [step for step in steps if not step.reply.done()]
            if not steps:
                continue
            for step in steps:
                step.was_sent = True
            try:
                async with asyncio.timeout(self.timeout_s):
                    replies = await self._exchange_anew(steps)
            except Exception as error:  # noqa: BLE001 (as above)
                self._is_doubtful = True
                for step in steps:
                    step.fail(reason_of(error))
                return
            for step, reply in zip(steps, replies, strict=True):
                self._deliver(step, reply)

    def _deliver(self, step: Step, reply: Any) -> None:
        if isinstance(reply, Exception):
            self._is_doubtful = True
            step.fail(reason_of(reply))
        elif not step.reply.done():
            step.reply.set_result(reply)

    async def _exchange_anew(self, steps: Sequence[Step]) -> list[Any]:
        """A connection may have been closed since it was used last: then once more over another."""
        try:
            return await self._exchange(steps)
        except (RedisConnectionError, OSError):
            await self.disconnect()
            return await self._exchange(steps)

    async def _exchange(self, steps: Sequence[Step]) -> list[Any]:
        connection = await self._connected()
        commands = [
            ("EVALSHA", self._digest, len(step.keys), *step.keys, *step.arguments) for step in steps
        ]
        replies = await talk(connection, commands)
        forgotten = [n for n, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if forgotten:  # SCRIPT FLUSH; a restart breaks the connection too
            await self._load_script(connection)
            again = await talk(connection, [commands[n] for n in forgotten])
            for n, reply in zip(forgotten, again, strict=True):
                replies[n] = reply
        return replies

    async def _connected(self) -> AbstractConnection:
        if self._connection is None:
            self._connection = self.address.connection()
            await self._load_script(self._connection)  # connects
        return self._connection

    async def _load_script(self, connection: AbstractConnection) -> None:
        (digest,) = await talk(connection, [("SCRIPT", "LOAD", self.script)])
        if isinstance(digest, ResponseError):
            raise digest
        self._digest = digest

    async def disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(RedisError, OSError):
                await connection.disconnect(nowait=True)


async def talk(connection: AbstractConnection, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Send them together; their replies, errors that Redis answers with among them."""
    await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
    return [await read(connection) for _ in commands]


async def read(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


def reason_of(error: BaseException) -> str:
    """For the log; no error of redis-py quotes the address or the password."""
    return f"{type(error).__name__}: {str(error)[:200]}".rstrip(": ")
