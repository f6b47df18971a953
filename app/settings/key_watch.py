"""Follows the key file: a good edit is taken over within a second, a broken one is refused."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from app.core.errors import SettingsError
from app.core.keys import KeyRing
from app.settings.key_file import parse_keys, read_bytes

logger = logging.getLogger("gateway")

# The content is compared, not the time of the last change: the file may be a link into a mounted
# Secret, which Kubernetes swaps, or lie where times are coarse.
LOOK_INTERVAL_S = 0.4


class KeyFileWatch:
    """`ring` always holds the last good content of the file; `observe` hears if the newest is."""

    def __init__(self, path: Path, observe: Callable[[bool], None]) -> None:
        """Raises SettingsError where the file cannot be used now."""
        self.path, self._observe = path, observe
        self._seen: bytes | str = read_bytes(path)
        self.ring = parse_keys(self._seen, path)
        observe(True)

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_INTERVAL_S)
            try:
                await self.look()
            except Exception:
                logger.exception("the key file could not be looked at")
                self._observe(False)

    async def look(self) -> None:
        """Compare the file with what was seen of it last, and take over what is new and good: on
        the event loop, so that no request meets a key of one content and tenants of another."""
        ring = await asyncio.to_thread(self._read_news)
        if ring is not None:
            self.ring.adopt(ring)
            self._observe(True)
            logger.info("keys changed", extra={"keys": len(ring.keys)})

    def _read_news(self) -> KeyRing | None:
        try:
            content = read_bytes(self.path)
        except SettingsError as error:
            if self._seen != error.sentence:
                self._seen = error.sentence
                self._refuse(error)
            return None
        if content == self._seen:
            return None
        self._seen = content
        try:
            return parse_keys(content, self.path)
        except SettingsError as error:
            self._refuse(error)
            return None

    def _refuse(self, error: SettingsError) -> None:
        self._observe(False)
        logger.error(
            "the key file cannot be used; the keys stay as they were",
            extra={"reason": error.sentence},
        )
