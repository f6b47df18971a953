import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.__main__ import main
from app.core.errors import SettingsError
from app.core.keys import RetiredDigest, digest_of, make_key
from app.core.routes import Scope
from app.core.tenants import Tenant, make_tenant
from app.settings.key_file import read_keys, write_keys
from app.settings.local_key import ensure_local_key

DIGEST = "0" * 64


def test_a_created_key_is_printed_once_and_only_its_digest_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "state" / "keys.yaml"
    assert main(["keys", "create", "alice", "--file", str(path)]) == 0
    secret = capsys.readouterr().out.strip()
    assert secret not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = read_keys(path).find(secret)
    assert found is not None
    assert found.scopes == {Scope.INFER}
    assert main(["keys", "create", "bob", "--scope", "metrics", "--file", str(path)]) == 0
    capsys.readouterr()
    assert main(["keys", "list", "--file", str(path)]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert listed[1:] == [
        "alice\talice\tinfer\t*\tnever\tnormal\t-\t-",
        "bob\tbob\tmetrics\t*\tnever\tnormal\t-\t-",
    ]
    assert read_keys(path).find(secret) is not None


def test_the_list_shows_what_keys_and_tenants_may_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ["--file", str(tmp_path / "keys.yaml")]
    create = ["create", "batch", "--tenant", "shop", "--priority", "low", "--timeout-ms", "5000"]
    for command in (
        create,
        ["limit", "batch", "requests_per_minute=60", "max_n=4"],
        ["limit", "--tenant", "shop", "tokens_per_day=1000"],
        ["weight", "shop", "3"],
    ):
        assert main(["keys", *command, *at]) == 0
    capsys.readouterr()
    assert main(["keys", "list", *at]) == 0
    _, key, _, _, tenant = capsys.readouterr().out.splitlines()
    assert key.split("\t")[5:] == ["low", "5000", "requests_per_minute=60 max_n=4"]
    assert tenant == "shop\t3\tno\ttokens_per_day=1000"


def test_a_name_is_taken_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "keys.yaml"
    assert main(["keys", "create", "a", "--file", str(path)]) == 0
    before = path.read_text()
    assert main(["keys", "create", "a", "--file", str(path)]) == 2
    assert "named 'a' already" in capsys.readouterr().err
    assert path.read_text() == before


@pytest.mark.parametrize(
    "text",
    [
        *("", "keys: 5", "keys: [5]", "keys: [{name: a}]", "other: []", "keys: [", "\x00"),
        *("keys: [{name: a, sha256: x, plain: y}]", "keys: [{name: a, sha256: x, scopes: infer}]"),
        f"keys: [{{name: a, sha256: {DIGEST}, expires: 2027-01-31}}]",
        f"keys: [{{name: a, sha256: {DIGEST}, expires: soon}}]",
        f"keys: [{{name: a, sha256: {DIGEST}, models: bundled}}]",
        f"keys: [{{name: a, sha256: {DIGEST}, models: ['']}}]",
        f"keys: [{{name: a, sha256: {DIGEST}, tenant: a b}}]",
        f"keys: [{{name: a, sha256: {DIGEST}, retired: [x]}}]",
        f"keys: [{{name: a, sha256: {DIGEST}, retired: [{{sha256: {DIGEST}}}]}}]",
        f"{{keys: [{{name: a, sha256: {DIGEST}}}], kays: []}}",
        f"keys: [{{name: a, sha256: {DIGEST}, limits: [1]}}]",
        f"keys: [{{name: a, sha256: {DIGEST}, limits: {{tokens: 1}}}}]",
        f"keys: [{{name: a, sha256: {DIGEST}, limits: {{max_n: 0}}}}]",
        f"keys: [{{name: a, sha256: {DIGEST}, limits: {{max_n: true}}}}]",
        "{keys: [], tenants: [t]}",
        "{keys: [], tenants: {t: 1}}",
        "{keys: [], tenants: {t: {shares_cache: 1}}}",
        "{keys: [], tenants: {'a b': {}}}",
        "{keys: [], tenants: {t: {limit: {}}}}",
        "{keys: [], tenants: {t: {weight: 0}}}",
        "{keys: [], tenants: {t: {weight: x}}}",
        f"keys: [{{name: a, sha256: {DIGEST}, priority: first}}]",
        f"keys: [{{name: a, sha256: {DIGEST}, timeout_ms: 0}}]",
        f"keys: [{{name: a, sha256: {DIGEST}, timeout_ms: true}}]",
        f"keys: [{{name: a, sha256: {DIGEST}, timeout_ms: 1.5}}]",
        f"keys: [{{name: a, sha256: {DIGEST}, timeout_ms: 86400001}}]",
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError):
        read_keys(path)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    moment = datetime(2027, 1, 31, tzinfo=UTC)
    old = RetiredDigest("1" * 64, moment)
    full = make_key(
        *("full", DIGEST, ["infer", "admin"]),
        tenant="shop",
        models=["bundled"],
        expires=moment,
        retired=[old],
        limits={"tokens_per_minute": 1000, "max_n": 2},
        priority="low",
        timeout_ms=2500,
    )
    plain = make_key("plain", "2" * 64, [])
    shop = make_tenant("shop", {"tokens_per_day": 5}, True, 2.5)
    write_keys(path, [full, plain], [shop, Tenant("other")])
    ring = read_keys(path)
    assert ring.keys == (full, plain)
    assert ring.tenant_of(full) == shop
    assert ring.tenants["other"] == Tenant("other")
    assert ring.tenant_of(plain) == Tenant("plain")
    handwritten = path.read_text().replace("'2027-01-31T00:00:00+00:00'", "2027-01-31T00:00:00Z")
    assert handwritten != path.read_text()
    path.write_text(handwritten)
    assert read_keys(path).keys == (full, plain)


def test_the_local_key_keeps_what_its_owner_added_to_it(tmp_path: Path) -> None:
    secret_file, keys_file = tmp_path / "key", tmp_path / "keys.yaml"
    secret = ensure_local_key(secret_file, keys_file)
    mine = make_key("local", digest_of(secret), ["infer"], tenant="me")
    write_keys(keys_file, [mine])
    ensure_local_key(secret_file, keys_file)
    assert read_keys(keys_file).keys == (mine,)


def test_the_local_key_is_made_once_and_kept_private(tmp_path: Path) -> None:
    secret_file, keys_file = tmp_path / "s" / "key", tmp_path / "s" / "keys.yaml"
    secret = ensure_local_key(secret_file, keys_file)
    assert ensure_local_key(secret_file, keys_file) == secret
    assert stat.S_IMODE(secret_file.stat().st_mode) == 0o600
    found = read_keys(keys_file).find(secret)
    assert found is not None
    assert found.scopes == frozenset(Scope)
    secret_file.chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        ensure_local_key(secret_file, keys_file)


def test_an_edited_file_can_be_read_by_whom_it_could_be_read(tmp_path: Path) -> None:
    """A service that runs as another user than the one who edits would lose its keys else."""
    path = tmp_path / "keys.yaml"
    assert main(["keys", "create", "a", "--file", str(path)]) == 0
    path.chmod(0o640)
    assert main(["keys", "rotate", "a", "--file", str(path)]) == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
