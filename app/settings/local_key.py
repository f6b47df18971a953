"""The key that `make serve` makes for this machine: kept in a file that only its owner can read."""

from pathlib import Path

from app.core.errors import SettingsError
from app.core.keys import create_secret, digest_of, make_key
from app.core.routes import Scope
from app.settings.key_file import editing, write_private

NAME = "local"


def ensure_local_key(secret_file: Path, keys_file: Path) -> str:
    """The secret in `secret_file`, made if there is none, and known in `keys_file` as `local`."""
    if secret_file.is_file():
        if secret_file.stat().st_mode & 0o077:
            raise SettingsError(f"{secret_file} can be read by others; run `chmod 600` on it.")
        secret = secret_file.read_text(encoding="utf-8").strip()
    else:
        secret = create_secret()
        write_private(secret_file, secret + "\n")
    digest = digest_of(secret)
    with editing(keys_file) as draft:
        if not any(key.name == NAME and key.digest == digest for key in draft.keys):
            draft.keys = [key for key in draft.keys if key.name != NAME]
            draft.keys.append(make_key(NAME, digest, Scope))
    return secret


def show_local_key(address: str, secret: str, model: str) -> None:
    """The key, and a request that can be pasted into a shell."""
    print(  # noqa: T201 (what the user asked for with --local-key)
        f"\nAPI key of this machine: {secret}\n\n"
        f"curl {address}/v1/chat/completions \\\n"
        f"  -H 'Authorization: Bearer {secret}' -H 'Content-Type: application/json' \\\n"
        f'  -d \'{{"model": "{model}", "temperature": 0, "messages": [{{"role": "user", "content": '
        f'"What is 37 + 5?"}}]}}\'\n',
        flush=True,
    )
