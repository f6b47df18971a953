import pytest

from app.core.errors import SettingsError
from app.core.keys import KeyRing, create_secret, digest_of, make_key
from app.core.routes import Scope


def test_a_key_is_found_by_its_secret_and_by_nothing_else() -> None:
    secret, other = create_secret(), create_secret()
    ring = KeyRing([make_key("a", digest_of(secret), ["infer"])])
    found = ring.find(secret)
    assert found is not None
    assert found.name == "a"
    assert found.allows(Scope.INFER)
    assert not found.allows(Scope.ADMIN)
    for wrong in (other, "", secret[:-1], secret + " ", digest_of(secret), "\udcff"):
        assert ring.find(wrong) is None


def test_a_digest_that_only_begins_alike_is_not_the_key() -> None:
    secret = create_secret()
    digest = digest_of(secret)
    near = digest[:8] + "0" * 56
    assert KeyRing([make_key("near", near, ["infer"])]).find(secret) is None


def test_secrets_are_long_and_never_shown() -> None:
    secret = create_secret()
    assert len(secret) > 40
    key = make_key("a", digest_of(secret), ["infer"])
    assert secret not in repr(key)
    assert key.digest not in repr(key)


@pytest.mark.parametrize(
    ("name", "digest", "scopes", "said"),
    [
        ("a b", "0" * 64, ["infer"], "key name"),
        (None, "0" * 64, ["infer"], "key name"),
        ("a", "xyz", ["infer"], "sha256"),
        ("a", None, ["infer"], "sha256"),
        ("a", "0" * 64, ["root"], "'root'"),
        ("a", "0" * 64, [["infer"]], "scope"),
    ],
)
def test_a_wrong_entry_is_named(
    name: object, digest: object, scopes: list[object], said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        make_key(name, digest, scopes)


def test_two_keys_of_one_name_are_refused() -> None:
    key = make_key("a", "0" * 64, ["infer"])
    with pytest.raises(SettingsError, match="twice"):
        KeyRing([key, make_key("a", "1" * 64, ["infer"])])
