import stat
from pathlib import Path

import pytest

from app.__main__ import main
from app.core.errors import SettingsError
from app.core.routes import Scope
from app.settings.key_file import read_keys
from app.settings.local_key import ensure_local_key


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
    assert capsys.readouterr().out == "alice\tinfer\nbob\tmetrics\n"
    assert read_keys(path).find(secret) is not None


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
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError):
        read_keys(path)


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
