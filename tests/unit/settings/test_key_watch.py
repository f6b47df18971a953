import asyncio
import logging
from pathlib import Path

import pytest

from app.core.keys import KeyRing, create_secret, digest_of, make_key
from app.settings.key_file import write_keys
from app.settings.key_watch import LOOK_INTERVAL_S, KeyFileWatch


class Keys:
    """A key file that is watched; `heard` is what the observer was told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[bool] = []
        self.first = self.write("first")
        self.watch = KeyFileWatch(path, self.heard.append)

    def write(self, *names: str) -> str:
        """Keys of these names; returns the secret of the last."""
        secrets = {name: create_secret() for name in names}
        write_keys(
            self.path,
            [make_key(name, digest_of(each), ["infer"]) for name, each in secrets.items()],
        )
        return secrets[names[-1]]


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "keys.yaml")


def test_a_change_is_in_force_within_a_second(keys: Keys) -> None:
    """By the interval of the looks; how fast this machine is today does not decide."""

    async def change() -> None:
        watching = asyncio.create_task(keys.watch.run())
        await asyncio.sleep(0.05)
        second = keys.write("second")
        async with asyncio.timeout(20):
            while keys.watch.ring.find(second) is None:  # noqa: ASYNC110 (a ring has no event)
                await asyncio.sleep(0.01)
        watching.cancel()
        assert keys.watch.ring.find(keys.first) is None

    asyncio.run(change())
    assert keys.heard == [True, True]
    assert LOOK_INTERVAL_S <= 0.5


@pytest.mark.parametrize("content", [b"", b"keys: [", b"\xff", b"keys: [{name: a}]", None])
def test_a_broken_edit_changes_nothing_and_is_said_once(
    keys: Keys, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    if content is None:
        keys.path.unlink()
    else:
        keys.path.write_bytes(content)
    with caplog.at_level(logging.ERROR, "gateway"):
        for _ in range(3):
            asyncio.run(keys.watch.look())
    assert keys.watch.ring.find(keys.first) is not None
    assert keys.heard == [True, False]
    assert len(caplog.records) == 1
    second = keys.write("second")
    asyncio.run(keys.watch.look())
    assert keys.heard == [True, False, True]
    assert keys.watch.ring.find(second) is not None


def test_no_request_meets_a_change_half_done(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests live on the event loop; another thread could come between keys and tenants."""
    adopt, on_loop = KeyRing.adopt, list[bool]()

    def watched(ring: KeyRing, other: KeyRing) -> None:
        on_loop.append(asyncio.get_running_loop().is_running())  # raises in another thread
        adopt(ring, other)

    monkeypatch.setattr(KeyRing, "adopt", watched)
    second = keys.write("second")
    asyncio.run(keys.watch.look())
    assert on_loop == [True]
    assert keys.watch.ring.find(second) is not None


def test_the_log_of_a_broken_edit_shows_no_digest(
    keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    digest = digest_of("x")
    keys.path.write_text(f"keys: [{{name: a, sha256: {digest}, scopes: [root]}}]")
    with caplog.at_level(logging.ERROR, "gateway"):
        asyncio.run(keys.watch.look())
    assert "'root'" in vars(caplog.records[0])["reason"]
    assert digest not in str(vars(caplog.records[0]))


def test_a_secret_that_kubernetes_swaps_is_followed(tmp_path: Path) -> None:
    """A mounted Secret: the file is a link through `..data`, itself a link that is replaced."""
    mount = tmp_path / "mount"
    for version in ("..one", "..two"):
        (mount / version).mkdir(parents=True)
    old, new = create_secret(), create_secret()
    for version, secret in (("..one", old), ("..two", new)):
        write_keys(mount / version / "keys.yaml", [make_key("a", digest_of(secret), ["infer"])])
    (mount / "..data").symlink_to("..one")
    (mount / "keys.yaml").symlink_to("..data/keys.yaml")
    watch = KeyFileWatch(mount / "keys.yaml", lambda _: None)
    (mount / "..data_tmp").symlink_to("..two")
    (mount / "..data_tmp").rename(mount / "..data")
    asyncio.run(watch.look())
    assert watch.ring.find(new) is not None
    assert watch.ring.find(old) is None
