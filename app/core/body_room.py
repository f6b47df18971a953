"""How much the bodies of a tenant's requests may take together while they are in hand."""

from app.core.errors import Unavailable

_RETRY_AFTER_S = 2


class BodyRoom:
    """Limits of requests and tokens count from when a prompt is tokenized, and its body is there
    before: thousands of connections with 8 MB each would be all the memory there is. None is a
    tenant too."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._held: dict[str | None, int] = {}

    def open(self, tenant: str | None) -> "HeldBody":
        return HeldBody(self, tenant)

    def grow(self, tenant: str | None, num_bytes: int) -> None:
        """Raises Unavailable, having taken nothing."""
        held = self._held.get(tenant, 0) + num_bytes
        if held > self.most:
            raise Unavailable(
                f"The bodies of this tenant's requests have {self.most} bytes already; send this "
                "one again when others are done.",
                code="overloaded",
                retry_after_s=_RETRY_AFTER_S,
            )
        self._held[tenant] = held

    def shrink(self, tenant: str | None, num_bytes: int) -> None:
        self._held[tenant] -= num_bytes
        if not self._held[tenant]:
            del self._held[tenant]


class HeldBody:
    """One body, as long as its request lasts."""

    __slots__ = ("_num_bytes", "_room", "_tenant")

    def __init__(self, room: BodyRoom, tenant: str | None) -> None:
        self._room, self._tenant, self._num_bytes = room, tenant, 0

    def grow_to(self, num_bytes: int) -> None:
        """So much of it is there. Raises Unavailable where there is no room for it."""
        self._room.grow(self._tenant, num_bytes - self._num_bytes)
        self._num_bytes = num_bytes

    def end(self) -> None:
        if self._num_bytes:
            self._room.shrink(self._tenant, self._num_bytes)
            self._num_bytes = 0
