"""Keeps the label values of a metric few, whatever the key file holds."""

from dataclasses import dataclass, field

# Cannot be the name of a key or a tenant: those begin with a letter or a digit.
OTHERS = "_others"


@dataclass
class BoundedNames:
    """The first `most` names that are asked for are their own labels, all later ones share one."""

    most: int
    _seen: set[str] = field(default_factory=set)

    def label(self, name: str) -> str:
        if name not in self._seen:
            if len(self._seen) >= self.most:
                return OTHERS
            self._seen.add(name)
        return name
