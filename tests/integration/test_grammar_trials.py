"""Constraints tried out in a process of their own, on the compiler that the engine uses."""

import asyncio
import gc
import os
import signal
import warnings
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import psutil
import pytest

from app.core.constraints import Constraint
from app.core.errors import InvalidRequest, Unavailable
from tests.abuse.leaks import leak_in

with warnings.catch_warnings(action="ignore"):  # torch's own, while it is imported
    import xgrammar

    from app.core.grammar_trial import Job
    from app.engine.grammar_trials import GrammarTrials

GOOD = Constraint("json", '{"type": "object", "properties": {"a": {"type": "integer"}}}', "format")
# Rules that lead from each to the next, any number of letters on the way: 50 KB without an end.
NUM_RULES = 1500
RULES = [f'r{n} ::= "a"* "b"* r{(n + 1) % NUM_RULES} | "c"' for n in range(NUM_RULES)]
CHOICE = "root ::= " + " | ".join(f"r{n}" for n in range(NUM_RULES))
SLOW = Constraint("grammar", "\n".join([CHOICE, *RULES]), "slow")
BAD: tuple[tuple[Any, str], ...] = (
    ("regex", "["),
    ("regex", "foo**"),
    ("grammar", "root ::="),
    ("grammar", 'root ::= root "a"'),
    ("grammar", 'root ::= "a" b\nb ::= b "c"'),
    ("grammar", "start: a"),
    ("json", '{"type": "stsring"}'),
    ("structural_tag", "{}"),
)
Use = Callable[[GrammarTrials], Awaitable[Any]]


def with_trials(use: Use, deadline_s: float = 5) -> Any:
    words = [bytes([number]) for number in range(256)]
    info = xgrammar.TokenizerInfo([*words, b"<end>"], stop_token_ids=[256])

    async def run() -> Any:
        trials = GrammarTrials(Job(info.serialize_json(), deadline_s))
        await trials.start()
        try:
            return await use(trials)
        finally:
            await trials.stop()

    return asyncio.run(run())


def test_what_does_not_compile_is_refused_with_the_compilers_reason() -> None:
    async def use(trials: GrammarTrials) -> list[InvalidRequest]:
        errors = []
        for kind, text in BAD:
            with pytest.raises(InvalidRequest) as refused:
                await trials.check([GOOD, Constraint(kind, text, "the field")], None)
            errors.append(refused.value)
        return errors

    for error in with_trials(use):
        assert (error.code, error.param) == ("invalid_schema", "the field")
        assert "compile: " in error.sentence
        assert not leak_in(error.sentence)


def test_what_takes_too_long_is_ended_and_holds_up_nobody() -> None:
    async def use(trials: GrammarTrials) -> None:
        slow = asyncio.create_task(trials.check([SLOW], None))
        await asyncio.sleep(0.05)
        await trials.check([GOOD], None)
        assert not slow.done()
        with pytest.raises(InvalidRequest, match="compile_timeout_s"):
            await slow
        began = asyncio.get_running_loop().time()
        with pytest.raises(InvalidRequest, match="compile_timeout_s"):
            await trials.check([SLOW], None)  # remembered
        assert asyncio.get_running_loop().time() - began < 1  # of the two that it would take

    with_trials(use, deadline_s=2)


def test_a_host_that_dies_is_replaced() -> None:
    async def use(trials: GrammarTrials) -> None:
        (host,) = hosts()
        host.send_signal(signal.SIGKILL)
        host.wait(60)
        await asyncio.sleep(0.1)
        await trials.check([Constraint("regex", "abc", "x")], None)
        assert [each.pid for each in hosts()] != [host.pid]

    with_trials(use)


def test_who_waits_for_a_host_that_dies_is_told_and_nobody_else() -> None:
    """The trial that the first host leaves behind ends while the second host's still runs."""
    another = Constraint("grammar", SLOW.text + "\n", "slow too")

    async def use(trials: GrammarTrials) -> None:
        waiting = asyncio.create_task(trials.check([SLOW], None))
        await asyncio.sleep(1)
        (host,) = hosts()
        host.send_signal(signal.SIGKILL)
        host.wait(60)
        await asyncio.sleep(0.1)
        late = asyncio.create_task(trials.check([another], None))
        with pytest.raises(Unavailable, match="send it again"):
            await waiting
        assert not late.done()
        with pytest.raises(InvalidRequest, match="compile_timeout_s"):
            await late

    with_trials(use, deadline_s=2)


def test_the_same_constraint_is_compiled_once() -> None:
    async def use(trials: GrammarTrials) -> int:
        await asyncio.gather(*(trials.check([GOOD], None) for _ in range(50)))
        return trials._host._num_trials if trials._host else 0

    assert with_trials(use) == 2  # the warm-up's, and ours


def hosts() -> list[psutil.Process]:
    children = psutil.Process(os.getpid()).children()
    return [child for child in children if "app.engine.grammar_host" in child.cmdline()]


def test_a_verdict_is_remembered_and_its_text_is_not() -> None:
    async def use(trials: GrammarTrials) -> None:
        constraint = Constraint("json", '{"type": "integer"}', "format")
        text = weakref.ref(constraint)
        await trials.check([constraint], None)
        del constraint
        await asyncio.sleep(0)
        gc.collect()
        assert text() is None
        await trials.stop()  # what is remembered needs no host
        trials.job = Job("", 0)
        await trials.check([Constraint("json", '{"type": "integer"}', "format")], None)
        assert trials._host is None

    with_trials(use)
