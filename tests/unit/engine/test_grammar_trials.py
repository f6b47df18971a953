"""Whose constraints are tried out when, with a host that takes a second for each."""

import asyncio
import warnings
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from app.core.constraints import Constraint
from app.core.errors import Unavailable
from app.core.grammar_trial import Job, Verdict
from tests.unit.virtual_time import run_virtually

with warnings.catch_warnings(action="ignore"):  # torch's own, while it is imported
    from app.engine import grammar_trials
    from app.engine.grammar_trials import GrammarTrials

SHARE = 32  # of the places, one tenant's
Use = Callable[[GrammarTrials, "SlowHost"], Awaitable[None]]


class SlowHost:
    """Stands in for the process of trials."""

    is_alive = True

    def __init__(self) -> None:
        self.tried: list[str] = []

    async def start(self, job: Job) -> "SlowHost":
        return self

    async def try_out(self, constraints: Sequence[Constraint], timeout_s: float) -> Verdict:
        self.tried.append(constraints[0].text)
        await asyncio.sleep(1)
        return Verdict(len(self.tried))

    async def stop(self) -> None: ...


@pytest.fixture
def use_trials(monkeypatch: pytest.MonkeyPatch) -> Callable[[Use], None]:
    """Runs what it is given, in virtual time, and sees that nothing is left in the books."""

    def run(use: Use) -> None:
        host = SlowHost()
        monkeypatch.setattr(grammar_trials, "HostProcess", host)
        trials = GrammarTrials(Job("", 5))

        async def use_and_check() -> None:
            await use(trials, host)
            assert not trials._judging
            assert not trials._turns._lanes

        run_virtually(use_and_check())

    return run


def named(text: str) -> list[Constraint]:
    return [Constraint("regex", text, "field")]


async def begin(trials: GrammarTrials, tenant: str | None, *texts: str) -> list[asyncio.Task[None]]:
    """One client of the tenant for each text; their trials are under way or wait."""
    clients = [asyncio.create_task(trials.check(named(text), tenant)) for text in texts]
    await asyncio.sleep(0)
    return clients


def now_s() -> float:
    return asyncio.get_running_loop().time()


def numbered(prefix: str, num: int) -> list[str]:
    return [f"{prefix}{number}" for number in range(num)]


def test_a_full_share_of_one_tenant_delays_anothers_trial_by_one(
    use_trials: Callable[[Use], None],
) -> None:
    async def use(trials: GrammarTrials, host: SlowHost) -> None:
        flood = await begin(trials, "a", *numbered("a", SHARE))
        await trials.check(named("b"), "b")
        assert now_s() == 2  # one trial of the other's, and its own
        await asyncio.gather(*flood)
        assert host.tried == ["a0", "a1", "b", *numbered("a", SHARE)[2:]]

    use_trials(use)


def test_what_is_beyond_a_tenants_share_is_refused_and_others_are_taken(
    use_trials: Callable[[Use], None],
) -> None:
    async def use(trials: GrammarTrials, host: SlowHost) -> None:
        flood = await begin(trials, "a", *numbered("a", SHARE))
        with pytest.raises(Unavailable, match="of this tenant") as refused:
            await trials.check(named("one more"), "a")
        assert (refused.value.code, refused.value.retry_after_s) == ("overloaded", 2)
        others = [*await begin(trials, "b", "b"), *await begin(trials, None, "nobody's")]
        await flood[0]
        flood += await begin(trials, "a", "now there is room")
        await asyncio.gather(*flood, *others)
        assert sorted(host.tried) == sorted(
            [*numbered("a", SHARE), "b", "nobody's", "now there is room"]
        )

    use_trials(use)


def test_the_bound_of_all_together_stands(use_trials: Callable[[Use], None]) -> None:
    async def use(trials: GrammarTrials, host: SlowHost) -> None:
        clients = []
        for tenant in "ab":
            clients += await begin(trials, tenant, *numbered(tenant, SHARE))
        with pytest.raises(Unavailable, match="Too many schemas are waiting") as refused:
            await trials.check(named("e"), "e")
        assert (refused.value.code, refused.value.retry_after_s) == ("overloaded", 2)
        await asyncio.gather(*clients)

    use_trials(use)


def test_what_another_tenant_has_waiting_is_tried_in_ones_own_turn_and_once(
    use_trials: Callable[[Use], None],
) -> None:
    async def use(trials: GrammarTrials, host: SlowHost) -> None:
        flood = await begin(trials, "a", *numbered("a", SHARE - 1), "same")
        await trials.check(named("same"), "b")
        assert now_s() == 2
        await asyncio.gather(*flood)
        assert host.tried.count("same") == 1

    use_trials(use)


def test_what_one_tenant_asks_for_twice_at_once_is_tried_once(
    use_trials: Callable[[Use], None],
) -> None:
    async def use(trials: GrammarTrials, host: SlowHost) -> None:
        flood = await begin(trials, "a", "same", *numbered("a", SHARE - 1))
        again = await begin(trials, "a", "same")  # costs the tenant, whose share is full, nothing
        await asyncio.gather(*again)
        assert now_s() == 1
        await asyncio.gather(*flood)
        assert host.tried.count("same") == 1

    use_trials(use)


def test_a_client_that_leaves_keeps_its_tenants_place_until_the_trial_ends(
    use_trials: Callable[[Use], None],
) -> None:
    async def use(trials: GrammarTrials, host: SlowHost) -> None:
        for client in await begin(trials, "a", *numbered("a", SHARE)):
            client.cancel()
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await trials.check(named("one more"), "a")
        await asyncio.sleep(SHARE)
        assert host.tried == numbered("a", SHARE)

    use_trials(use)


def test_a_host_that_fails_gives_the_turn_back(
    use_trials: Callable[[Use], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def use(trials: GrammarTrials, host: SlowHost) -> None:
        async def fail(*_: Any) -> Verdict:
            raise ConnectionResetError

        with monkeypatch.context() as failing:
            failing.setattr(host, "try_out", fail)
            for client in await begin(trials, "a", *numbered("a", 3)):
                with pytest.raises(Unavailable, match="send it again"):
                    await client
        await trials.check(named("later"), "a")
        assert host.tried == ["later"]

    use_trials(use)


def test_trials_that_are_cancelled_leave_nothing_behind(use_trials: Callable[[Use], None]) -> None:
    """As when the loop ends: running, waiting, and not yet begun."""

    async def use(trials: GrammarTrials, host: SlowHost) -> None:
        clients = await begin(trials, "a", *numbered("a", 3))
        await asyncio.sleep(0.5)
        clients += await begin(trials, "b", "b")
        for trial in trials._judging.values():
            trial.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        assert host.tried == ["a0", "a1"]

    use_trials(use)
