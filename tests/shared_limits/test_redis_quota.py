"""The store on a real Redis: what it promises while Redis restarts, forgets, hangs or is away."""

import asyncio
import signal
import subprocess
from collections.abc import Coroutine, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from app.core.errors import InvalidRequest, SettingsError, StartError, Unavailable
from app.core.key_limits import Limits, Owner
from app.core.quota import Grant, QuotaBook, QuotaExceeded
from app.shared_limits.address import parse_address
from app.shared_limits.leases import Lease
from app.shared_limits.ledger import limits_of
from app.shared_limits.readiness import dangers_of
from app.shared_limits.redis_quota import RedisQuota
from tests.integration.gateway_process import free_port
from tests.shared_limits.redis_server import RedisServer, running_redis
from tests.shared_limits.replicas import LEASE_S, Shared, shared_ledger

TIMEOUT_S = 1
START_S = 86_400.0 * 20_000


@pytest.fixture
def shared(redis_server: RedisServer) -> Iterator[Shared]:
    with shared_ledger(redis_server) as ledger:
        yield ledger


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """For tests that stop it."""
    with running_redis(tmp_path) as server:
        yield server


def owners(**limits: int) -> tuple[Owner, ...]:
    return (
        Owner("key:k", "The key k", Limits()),
        Owner("tenant:t", "The tenant t", Limits(**limits)),
    )


async def admitted(store: RedisQuota, tokens: int, who: tuple[Owner, ...]) -> Grant:
    grant = await store.reserve(who, tokens)
    await store.start(grant)
    return grant


async def wait_until(condition: Any, within_s: float = 60) -> None:
    give_up_s = monotonic() + within_s
    while not condition():
        assert monotonic() < give_up_s
        await asyncio.sleep(0.01)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def test_replicas_share_a_limit_and_what_comes_back(shared: Shared) -> None:
    async def use() -> None:
        who = owners(tokens_per_minute=100, concurrent_requests=2)
        async with shared.running() as one, shared.running() as two:
            first = await admitted(one, 60, who)
            await admitted(two, 30, who)
            with pytest.raises(QuotaExceeded) as refused:
                await two.reserve(who, 10)
            assert refused.value.limit == "concurrent_requests"
            await one.settle(first, 10)
            await one.leases.pay()
            await admitted(two, 40, who)
            assert two.standings(who)["tokens"].remaining == 20

    run(use())


def test_the_headers_cost_no_step_of_their_own(shared: Shared) -> None:
    async def use() -> None:
        who = owners(tokens_per_minute=100, requests_per_minute=10)
        async with shared.running() as store:
            await store.reserve(who, 60)
            shown = store.standings(who)
            assert (shown["tokens"].remaining, shown["requests"].remaining) == (40, 9)
            with pytest.raises(QuotaExceeded):
                await store.reserve(who, 60)
            assert store.standings(who)["tokens"].limit == 100
            assert [each for each in shared.heard.answered if each != "renew"] == ["reserve"] * 2

    run(use())


def test_what_never_fits_is_refused_without_asking(shared: Shared) -> None:
    async def use() -> None:
        with pytest.raises(InvalidRequest):
            await shared.replica().reserve(owners(tokens_per_day=10), 11)

    run(use())


def test_a_reservation_outlives_a_restart_and_what_ends_meanwhile_is_done_later(
    own_server: RedisServer,
) -> None:
    async def use(shared: Shared) -> None:
        who = owners(tokens_per_minute=100, concurrent_requests=3)
        shared.set_time(START_S)
        async with shared.running(timeout_s=TIMEOUT_S) as store:
            runs, ends = await admitted(store, 50, who), await admitted(store, 30, who)
            shared.set_time(START_S + 10 * LEASE_S)  # what it will find when it comes back
            own_server.stop(signal.SIGKILL)
            with pytest.raises(Unavailable) as refused:
                await store.reserve(who, 1)
            assert refused.value.code == "limits_unavailable"
            await store.settle(ends, 0)
            own_server.start()
            await wait_until(lambda: not store.leases.owed and store.describe()["reachable"])
            with pytest.raises(QuotaExceeded):
                await store.reserve(who, 51)
            await store.settle(runs, 50)
            await store.reserve(who, 50)
            assert shared.heard.num_lapsed == 0
            assert shared.heard.ups[-2:] == [False, True]

    with shared_ledger(own_server) as shared:
        run(use(shared))


@pytest.mark.parametrize("is_late", [False, True])
def test_a_reservation_that_nobody_heard_of_is_undone_even_where_it_is_still_to_come(
    shared: Shared, is_late: bool
) -> None:
    """A call may lie in the buffers of a Redis that hangs, and be done after its undoing."""

    async def use() -> None:
        who = owners(concurrent_requests=1)
        reserve = ("reserve", who, "lost", 10, *limits_of(who))
        undo = ("undo", who, "lost", 0)
        async with shared.running() as store:
            for operation, *rest in (undo, reserve) if is_late else (reserve, undo):
                answer = await store.ledger.ask(str(operation), *rest)  # type: ignore[arg-type]
            assert answer.decision == ("gone" if is_late else "done")
            assert shared.num_leases() == 0
            await store.reserve(who, 1)

    run(use())


def test_a_script_that_redis_forgot_is_sent_again(shared: Shared) -> None:
    async def use() -> None:
        async with shared.running() as store:
            await store.reserve(owners(), 1)
            shared.client.script_flush()
            await store.reserve(owners(), 1)
            assert not shared.heard.failed

    run(use())


def test_a_redis_that_forgot_everything_learns_what_runs(shared: Shared) -> None:
    async def use() -> None:
        who = owners(concurrent_requests=1)
        async with shared.running() as store:
            grant = await admitted(store, 10, who)
            shared.forget()
            await store.leases.renew()
            assert shared.heard.num_lapsed == 1
            with pytest.raises(QuotaExceeded):
                await store.reserve(who, 1)
            await store.settle(grant, 10)
            await store.reserve(who, 1)

    run(use())


def test_a_killed_replica_holds_nothing_for_longer_than_its_lease(shared: Shared) -> None:
    async def use() -> None:
        who = owners(concurrent_requests=2, tokens_per_day=100)
        shared.set_time(START_S)
        async with shared.running() as living:
            async with shared.running() as killed:
                await admitted(killed, 40, who)
                await killed.reserve(who, 50)  # the engine has not seen it yet
            for seconds in (0, LEASE_S / 2, LEASE_S - 1):
                shared.set_time(START_S + seconds)
                with pytest.raises(QuotaExceeded):
                    await living.reserve(who, 1)
            shared.set_time(START_S + LEASE_S + 1)
            with pytest.raises(QuotaExceeded):
                await living.reserve(who, 61)  # what was started counts as used
            await living.reserve(who, 60)
            assert shared.num_leases() == 1

    run(use())


@pytest.mark.parametrize("fallback", [None, "memory"])
def test_a_redis_that_hangs_is_waited_for_once_and_then_no_more(
    own_server: RedisServer, fallback: str | None
) -> None:
    async def use(shared: Shared) -> None:
        who = owners(concurrent_requests=1)
        book = QuotaBook() if fallback else None
        async with shared.running(timeout_s=TIMEOUT_S, lease_s=60, fallback=book) as store:
            held = await admitted(store, 10, who)
            own_server.send(signal.SIGSTOP)
            begun = monotonic()
            if book is None:
                with pytest.raises(Unavailable):
                    await store.reserve(who, 1)
            else:  # counted by itself: one here, beside the one that Redis knows
                own = await admitted(store, 1, who)
                await store.settle(own, 1)
            waited_s = monotonic() - begun
            await wait_until(lambda: not store.describe()["reachable"])
            begun = monotonic()
            for _ in range(100):
                if book is None:
                    with pytest.raises(Unavailable):
                        await store.reserve(who, 1)
                else:
                    await store.settle(await admitted(store, 1, who), 1)
            assert monotonic() - begun < 10 * waited_s  # not a hundred times
            own_server.send(signal.SIGCONT)
            await wait_until(lambda: store.describe()["reachable"] and not store.leases.owed)
            with pytest.raises(QuotaExceeded):
                await store.reserve(who, 1)
            await store.settle(held, 10)
            await store.reserve(who, 1)
            assert shared.num_leases() == 1  # what was asked meanwhile holds nothing

    with shared_ledger(own_server) as shared:
        run(use(shared))


def num_reads(shared: Shared) -> int:
    """How often Redis has read from a socket."""
    info: Any = shared.client.info("stats")
    return int(info["total_reads_processed"])


def test_a_hundred_calls_at_once_are_a_few_trips(shared: Shared) -> None:
    async def use() -> None:
        async with shared.running() as store:
            await store.reserve(owners(), 1)
            before = num_reads(shared)
            await asyncio.gather(*(store.reserve(owners(), 1) for _ in range(100)))
            assert num_reads(shared) - before < 10
            assert shared.counters(0)["tenant:t"].reserved_tokens == 101

    run(use())


def test_a_cluster_keeps_all_of_it_in_one_slot(tmp_path: Path) -> None:
    options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with running_redis(tmp_path, *options) as server:
        client: Any = server.client()
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)

        async def use(shared: Shared) -> None:
            opened = shared.replica()
            await opened.open(patience_s=10)
            await opened.ledger.courier.disconnect()
            async with shared.running() as store:
                grant = await admitted(store, 10, owners(concurrent_requests=1))
                await store.extend(grant, 5)
                await store.settle(grant, 1)
                await store.leases.renew()
                await store.leases.pay()
                assert not shared.heard.failed
            client.close()

        with shared_ledger(server) as shared:
            run(use(shared))


def make_certificate(folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


def test_tls_and_a_password_are_checked_and_the_password_is_never_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, key = make_certificate(tmp_path)
    port = free_port()
    options = ["--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no"]
    options += ["--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
    trusted = f"?ssl_ca_certs={certificate}"

    async def open_at(url: str) -> str:
        store = Shared(server).replica(url=url)
        assert "wordpass" not in repr(store.ledger.courier.address) + str(store.describe())
        try:
            await store.open(patience_s=0)
        except StartError as error:
            return error.sentence
        finally:
            await store.ledger.courier.disconnect()
            await asyncio.sleep(0.1)  # TLS takes its leave
        return ""

    with running_redis(tmp_path, *options, "--requirepass", "wordpass", port=port) as server:
        place = f"127.0.0.1:{port}"
        said = [
            asyncio.run(open_at(f"rediss://:wordpass@{place}{trusted}")),
            asyncio.run(open_at(f"rediss://:wordpass@{place}")),
            asyncio.run(open_at(f"rediss://:wordpass-not@{place}{trusted}")),
            asyncio.run(open_at(f"rediss://{place}{trusted}")),
        ]
    assert [bool(sentence) for sentence in said] == [False, True, True, True]
    assert "CERTIFICATE_VERIFY_FAILED" in said[1]
    assert all(f"{place}/0" in sentence for sentence in said[1:])
    assert "wordpass" not in "".join(said) + caplog.text


def test_a_user_of_few_rights_is_enough(redis_server: RedisServer) -> None:
    """As docs/tenancy.md gives them."""
    page = (Path(__file__).parents[2] / "docs" / "tenancy.md").read_text()
    (rights,) = [line for line in page.splitlines() if line.startswith("ACL SETUSER gateway ")]
    with shared_ledger(redis_server) as shared:
        shared.prefix = "w8a8-gateway"
        client: Any = shared.client
        client.execute_command(*rights.replace("PASSWORD", "few").split())

        async def use() -> None:
            place = redis_server.url.removeprefix("redis://")
            async with shared.running(url=f"redis://gateway:few@{place}") as store:
                grant = await admitted(store, 10, owners(tokens_per_minute=100))
                await store.extend(grant, 5)
                await store.settle(grant, 1)
                await store.leases.renew()
                store.leases.owe("undo", Lease(owners(), 1, id="x"), 0)
                await store.leases.pay()
                assert not shared.heard.failed

        run(use())
        client.execute_command("ACL", "DELUSER", "gateway")


def test_a_start_without_redis_ends_or_goes_on_as_the_policy_says(shared: Shared) -> None:
    nowhere = f"redis://127.0.0.1:{free_port()}"

    async def use() -> None:
        with pytest.raises(StartError, match=r"limits\.redis_url.*fail_closed"):
            await shared.replica(url=nowhere).open(patience_s=0.3)
        store = shared.replica(url=nowhere, fallback=QuotaBook())
        await store.open(patience_s=0.3)
        working = asyncio.create_task(store.keep_up())
        await admitted(store, 1, owners())
        assert not store.describe()["reachable"]
        working.cancel()

    run(use())


def test_what_a_redis_would_forget_is_said() -> None:
    kept = {"aof_enabled": "1", "maxmemory": "0", "maxmemory_policy": "allkeys-lru"}
    assert dangers_of(kept) == []
    (said,) = dangers_of(kept | {"aof_enabled": "0"})
    assert "append-only file" in said
    (said,) = dangers_of(kept | {"maxmemory": "1000000"})
    assert "allkeys-lru" in said


@pytest.mark.parametrize(
    "url",
    ["http://h", "redis://", "redis://h:99999", "redis://h/a", "redis://h?no=1", "redis://[::1"],
)
def test_a_wrong_address_is_one_sentence_that_does_not_quote_it(url: str) -> None:
    with pytest.raises(SettingsError, match=r"limits\.redis_url") as refused:
        parse_address(url.replace("://", "://user:wordpass@", 1))
    assert "wordpass" not in refused.value.sentence
