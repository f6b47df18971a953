"""Who the keys belong to: what all keys of a tenant may use together."""

from dataclasses import dataclass
from functools import cached_property

from app.core.errors import SettingsError
from app.core.key_limits import NO_LIMITS, Limits, Owner, make_limits


@dataclass(frozen=True)
class Tenant:
    """`weight`: its share of the engine against others'. `shares_cache`: its prompts may meet those
    of other such tenants in the prefix cache, where the time to the first token tells whether
    somebody has sent the same beginning."""

    name: str
    limits: Limits = NO_LIMITS
    shares_cache: bool = False
    weight: float = 1.0

    @cached_property
    def owner(self) -> Owner:
        return Owner(f"tenant:{self.name}", f"The tenant {self.name}", self.limits)

    def cache_salt(self, asked: str | None) -> str | None:
        """vLLM's cache salt for a request of this tenant that asks for the salt `asked`.

        A tenant's name has no colon and is not empty, so no two tenants meet unless both share.
        """
        if self.shares_cache:
            return f":{asked}" if asked else None
        return f"{self.name}:{asked or ''}"


def make_tenant(
    name: str, limits: object, shares_cache: object = False, weight: object = 1
) -> Tenant:
    """A checked tenant. Raises SettingsError naming what is wrong."""
    label = f"tenant {name!r}"
    if not isinstance(shares_cache, bool):
        raise SettingsError(f"{label}: shares_cache has to be true or false.")
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight <= 1000:
        raise SettingsError(f"{label}: weight has to be a number above 0, 1000 at most.")
    return Tenant(name, make_limits(limits, label), shares_cache, float(weight))
