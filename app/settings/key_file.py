"""The file of API keys: YAML, names and digests only, changed by writing beside and renaming."""

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

import yaml

from app.core.errors import SettingsError
from app.core.keys import Key, KeyRing, make_key


def read_keys(path: Path) -> KeyRing:
    """The keys of the file. Raises SettingsError where it is missing, unreadable or wrong."""
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(
            f"auth.keys_file: there is no file {path}; make a key with "
            f"`python -m app keys create NAME`."
        ) from None
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise SettingsError(
            f"auth.keys_file: {path} cannot be read ({type(error).__name__})."
        ) from None
    entries = tree.get("keys") if isinstance(tree, dict) else None
    if not isinstance(entries, list):
        raise SettingsError(f"auth.keys_file: {path} has to hold a list under `keys`.")
    return KeyRing(parse_entry(entry, path) for entry in entries)


def parse_entry(entry: Any, path: Path) -> Key:
    if not isinstance(entry, dict):
        raise SettingsError(
            f"auth.keys_file: an entry of {path} is not a table with name and sha256."
        )
    if unknown := set(entry) - {"name", "sha256", "scopes"}:
        raise SettingsError(
            f"auth.keys_file: {path} has an unknown field {str(min(unknown, key=str))[:40]!r}."
        )
    scopes = entry.get("scopes", ["infer"])
    if not isinstance(scopes, list):
        raise SettingsError(f"auth.keys_file: scopes of {entry.get('name')!r} has to be a list.")
    return make_key(entry.get("name"), entry.get("sha256"), scopes)


def write_keys(path: Path, keys: list[Key]) -> None:
    """Replace the file in one step: a reader sees the old keys or the new ones."""
    entries = [
        {"name": key.name, "sha256": key.digest, "scopes": sorted(map(str, key.scopes))}
        for key in keys
    ]
    write_private(path, yaml.safe_dump({"keys": entries}, sort_keys=False))


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise
