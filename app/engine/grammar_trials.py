"""Tries out a request's constraints in another process before vLLM's engine compiles them."""

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from time import monotonic
from typing import Any

import xgrammar

from app.core.constraints import Constraint
from app.core.errors import InvalidRequest, StartError, Unavailable
from app.core.foreign_errors import foreign
from app.core.grammar_trial import Job, Verdict
from app.core.turns import Turn, Turns
from app.engine.grammar_host_process import HostProcess

logger = logging.getLogger("gateway.engine")

_MAX_RUNNING = 2
_MAX_WAITING = 64
# What one tenant may have of these, so that others find a place.
_MAX_OF_TENANT = _MAX_WAITING // 2
# The host answers at the deadline at the latest, or has to be loaded first (some 6 s); longer than
# this on top, and it is not there. While the engine loads too, it may take its time.
_PATIENCE_S, _LOADING_S = 30.0, 300.0
_MAX_REMEMBERED = 4096
_REMEMBERED_S = 600.0
Key = tuple[Constraint, ...]
Asked = tuple[str | None, bytes]  # by a tenant, a digest


class GrammarTrials:
    """`check` lets pass what compiles within the deadline. Verdicts are remembered for a while."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._host: HostProcess | None = None
        # By digest: the texts of 4,096 requests can be gigabytes.
        self._remembered: OrderedDict[bytes, tuple[float, Verdict]] = OrderedDict()
        self._turns = Turns(_MAX_RUNNING)
        self._starting = asyncio.Lock()
        self._judging: dict[Asked, asyncio.Task[Verdict]] = {}

    async def start(self) -> None:
        """Start the host, and wait until it has everything loaded. Raises StartError."""
        try:
            await self._try_out((Constraint("json", '{"type": "object"}', "warm-up"),), _LOADING_S)
        except Unavailable:
            raise StartError("The host of grammar trials does not start; see above.") from None

    async def check(self, constraints: Sequence[Constraint], tenant: str | None) -> None:
        """Raises InvalidRequest for constraints that do not compile in time, and Unavailable when
        too many others are waiting, or too many of the tenant's own."""
        key = tuple(constraints)
        digest = digest_of(key)  # once: the texts can be a megabyte
        verdict = self._recall(digest)
        if verdict is None:
            # A client that leaves does not take the trial along: it would free its place too soon.
            asked = (tenant, digest)
            verdict = await asyncio.shield(self._judging.get(asked) or self._begin(asked, key))
        if not verdict.is_good:
            raise self._refusal(key, verdict)

    def _begin(self, asked: Asked, key: Key) -> "asyncio.Task[Verdict]":
        """In the tenant's own turn, whoever else has asked for the same. Raises Unavailable."""
        tenant, digest = asked
        if self._turns.num_in_hand(tenant) >= _MAX_OF_TENANT:
            raise too_many("schemas of this tenant")
        if len(self._judging) >= _MAX_WAITING:
            raise too_many("schemas")
        turn = self._turns.join(tenant)
        task = self._judging[asked] = asyncio.create_task(self._judge(key, digest, turn))
        task.add_done_callback(partial(self._end, asked, turn))
        return task

    async def _judge(self, key: Key, digest: bytes, turn: Turn) -> Verdict:
        await turn.has_come.wait()
        verdict = self._recall(digest)  # another tenant's turn may have come first
        if verdict is None:
            verdict = await self._try_out(key)
            self._remember(digest, verdict)
        return verdict

    def _end(self, asked: Asked, turn: Turn, trial: "asyncio.Task[Verdict]") -> None:
        """However it ended, also before it began."""
        del self._judging[asked]
        self._turns.leave(turn)
        if not trial.cancelled():
            trial.exception()  # taken note of: all who wanted it may have left

    def _recall(self, digest: bytes) -> Verdict | None:
        noted, verdict = self._remembered.get(digest, (0.0, None))
        return verdict if monotonic() - noted < _REMEMBERED_S else None

    def _remember(self, digest: bytes, verdict: Verdict) -> None:
        self._remembered[digest] = (monotonic(), verdict)
        self._remembered.move_to_end(digest)
        while len(self._remembered) > _MAX_REMEMBERED:
            self._remembered.popitem(last=False)

    async def _try_out(self, key: Key, patience_s: float = _PATIENCE_S) -> Verdict:
        host = await self._running_host()
        try:
            return await host.try_out(key, self.job.deadline_s + patience_s)
        except (TimeoutError, ConnectionError):
            logger.warning("the host of grammar trials does not answer; it is replaced")
            await host.stop()
            raise Unavailable(
                "The schema could not be tried out just now; send it again.", retry_after_s=2
            ) from None

    async def _running_host(self) -> HostProcess:
        async with self._starting:
            if self._host is None or not self._host.is_alive:
                await self.stop()
                self._host = await HostProcess.start(self.job)
            return self._host

    async def stop(self) -> None:
        host, self._host = self._host, None
        if host is not None:
            await host.stop()

    def _refusal(self, key: Key, verdict: Verdict) -> InvalidRequest:
        if verdict.index is not None:
            where = key[verdict.index].where
            sentence = f"{where} does not compile: {foreign(verdict.reason)}"
            return InvalidRequest(sentence, param=where, code="invalid_schema")
        where = key[0].where
        reason = (
            f"takes longer than limits.compile_timeout_s ({self.job.deadline_s:g} s)"
            if verdict.is_late
            else "needs more than there is"
        )
        sentence = f"To compile {where} {reason}; simplify it."
        return InvalidRequest(sentence, param=where, code="schema_too_complex")


def too_many(what: str) -> Unavailable:
    return Unavailable(
        f"Too many {what} are waiting to be compiled; send it again later.",
        code="overloaded",
        retry_after_s=2,
    )


def digest_of(key: Key) -> bytes:
    return hashlib.sha256(repr(key).encode()).digest()


def trial_job(client: Any, deadline_s: float) -> Job:
    """The job of a host that compiles for the model of `client` as its backend does."""
    tokenizer = xgrammar.TokenizerInfo.from_huggingface(
        client.get_tokenizer(), vocab_size=client.model_config.get_vocab_size()
    )
    return Job(tokenizer.serialize_json(), deadline_s)
