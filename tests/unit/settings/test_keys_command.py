from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.__main__ import main
from app.core.key_limits import Limits
from app.core.keys import Key
from app.settings.key_file import read_keys

Captured = pytest.CaptureFixture[str]


def keys(path: Path, *words: str) -> int:
    return main(["keys", words[0], "--file", str(path), *words[1:]])


def created(path: Path, capsys: Captured, *words: str) -> tuple[str, Key]:
    assert keys(path, "create", *words) == 0
    secret = capsys.readouterr().out.strip()
    found = read_keys(path).find(secret)
    assert found is not None
    return secret, found


def test_a_key_is_made_with_all_that_it_may_have(tmp_path: Path, capsys: Captured) -> None:
    words = ("a", "--tenant", "shop", "--model", "x", "--model", "y", "--expires-in", "90d")
    _, key = created(tmp_path / "keys.yaml", capsys, *words)
    assert key.tenant == "shop"
    assert key.models == frozenset({"x", "y"})
    assert key.expires is not None
    left = key.expires - datetime.now(UTC)
    assert timedelta(days=89) < left <= timedelta(days=90)


def test_a_rotated_key_keeps_everything_but_its_secret(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "keys.yaml"
    old, before = created(path, capsys, "a", "--tenant", "shop")
    assert keys(path, "rotate", "a", "--grace", "1h") == 0
    new = capsys.readouterr().out.strip()
    ring = read_keys(path)
    assert ring.find(old) is ring.find(new) is ring.keys[0]
    assert (ring.keys[0].tenant, ring.keys[0].scopes) == (before.tenant, before.scopes)
    later = datetime.now(UTC) + timedelta(hours=1, seconds=1)
    assert ring.find(old, later) is None
    assert ring.find(new, later) is ring.keys[0]


def test_without_grace_the_old_secret_ends_at_once(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "keys.yaml"
    old, _ = created(path, capsys, "a")
    assert keys(path, "rotate", "a", "--grace", "0s") == 0
    assert read_keys(path).find(old) is None


def test_a_revoked_key_is_gone_with_its_retired_secrets(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "keys.yaml"
    first, _ = created(path, capsys, "a")
    keys(path, "rotate", "a")
    second = capsys.readouterr().out.strip()
    kept, _ = created(path, capsys, "b")
    assert keys(path, "revoke", "a") == 0
    ring = read_keys(path)
    assert ring.find(first) is None
    assert ring.find(second) is None
    assert ring.find(kept) is not None


@pytest.mark.parametrize("action", ["rotate", "revoke"])
def test_a_name_that_is_not_there_is_said(tmp_path: Path, capsys: Captured, action: str) -> None:
    path = tmp_path / "keys.yaml"
    created(path, capsys, "a")
    before = path.read_text()
    assert keys(path, action, "b") == 2
    assert "no key named 'b'" in capsys.readouterr().err
    assert path.read_text() == before


def test_edits_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    names = [f"k{number}" for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda name: keys(path, "create", name), names)) == {0}
    assert {key.name for key in read_keys(path).keys} == set(names)


def test_a_duration_without_a_unit_is_refused(tmp_path: Path, capsys: Captured) -> None:
    with pytest.raises(SystemExit):
        keys(tmp_path / "keys.yaml", "create", "a", "--expires-in", "90")
    assert "90d, 12h, 30m or 45s" in capsys.readouterr().err


def test_limits_are_set_changed_and_taken_away(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "keys.yaml"
    created(path, capsys, "a", "--tenant", "shop")
    assert keys(path, "limit", "a", "requests_per_minute=60", "max_n=4") == 0
    assert keys(path, "limit", "--tenant", "shop", "tokens_per_minute=1000") == 0
    ring = read_keys(path)
    assert ring.keys[0].limits == Limits(requests_per_minute=60, max_n=4)
    assert ring.tenant_of(ring.keys[0]).limits == Limits(tokens_per_minute=1000)
    assert keys(path, "limit", "a", "max_n=none") == 0
    assert read_keys(path).keys[0].limits == Limits(requests_per_minute=60)
    assert keys(path, "rotate", "a") == 0
    assert read_keys(path).keys[0].limits == Limits(requests_per_minute=60)
    assert read_keys(path).tenants == ring.tenants


@pytest.mark.parametrize("wrong", ["max_n", "max_n=0", "max_n=-1", "max_n=1.5", "tokens=5"])
def test_a_wrong_limit_is_refused(tmp_path: Path, capsys: Captured, wrong: str) -> None:
    path = tmp_path / "keys.yaml"
    created(path, capsys, "a")
    with pytest.raises(SystemExit):
        keys(path, "limit", "a", wrong)


def test_a_tenants_weight_is_set_and_kept(tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "keys.yaml"
    _, key = created(
        path, capsys, "a", "--tenant", "shop", "--priority", "high", "--timeout-ms", "2500"
    )
    assert (key.priority, key.timeout_ms) == ("high", 2500)
    assert keys(path, "weight", "shop", "3") == 0
    assert keys(path, "limit", "--tenant", "shop", "max_n=2") == 0
    assert read_keys(path).tenants["shop"].weight == 3
    assert keys(path, "weight", "shop", "0") == 2
    assert read_keys(path).tenants["shop"].weight == 3
