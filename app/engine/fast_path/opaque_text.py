"""Texts that a template can put together and trim, and learns nothing else of.

What a template makes of them holds for all texts that are not blank: whatever depends on more than
that raises. They are no `str`, though they are taken for one where `is string` asks: what reads a
text's characters in C, as `in`, `join` and `json` do, refuses everything that is none.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple


class LookedAt(BaseException):
    """Something was asked of an opaque text. No Exception: Jinja takes some of those for a no."""


def refuse(*_: Any, **__: Any) -> Any:
    raise LookedAt


class Place(NamedTuple):
    """Where the content of a message goes (its number), trimmed on these sides."""

    message: int
    left: bool = False
    right: bool = False

    @property
    def trim(self) -> Callable[[str], str]:
        if self.left:
            return str.strip if self.right else str.lstrip
        return str.rstrip if self.right else str


Pieces = tuple[str | Place, ...]


class OpaqueText:
    """Of pieces, at least one of which is a Place. As it cannot be blank, it is true."""

    __slots__ = ("_pieces",)

    def __init__(self, *pieces: str | Place) -> None:
        self._pieces = pieces

    def __getattribute__(self, name: str) -> Any:
        if name == "__class__":
            return str
        if name in ("strip", "lstrip", "rstrip"):
            return object.__getattribute__(self, name)
        raise LookedAt

    def __bool__(self) -> bool:
        return True

    def __add__(self, other: Any) -> Any:
        return joined((self, other))

    def __radd__(self, other: Any) -> Any:
        return joined((other, self))

    def strip(self, chars: object = None) -> Any:
        return self.lstrip(chars).rstrip()

    def lstrip(self, chars: object = None) -> Any:
        return refuse() if chars is not None else OpaqueText(*trim_left(pieces_of(self)))

    def rstrip(self, chars: object = None) -> Any:
        return refuse() if chars is not None else OpaqueText(*trim_right(pieces_of(self)))

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __hash__ = refuse
    __str__ = __repr__ = __format__ = refuse
    __len__ = __iter__ = __contains__ = __getitem__ = refuse
    __mul__ = __rmul__ = __mod__ = __rmod__ = refuse
    __int__ = __float__ = __index__ = __complex__ = refuse  # a text can be asked by int()


class OpaqueMessage(dict[str, Any]):
    """A message whose fields can be had by name, while their order is not told."""

    __iter__ = __reversed__ = keys = values = items = copy = refuse
    __or__ = __ror__ = refuse


def pieces_of(text: Any) -> Pieces:
    if type(text) is OpaqueText:
        pieces: Pieces = object.__getattribute__(text, "_pieces")
        return pieces
    return (text,) if type(text) is str else refuse()


def joined(texts: Iterable[Any]) -> Any:
    """What `"".join` makes of plain texts; an OpaqueText where one of them is."""
    texts = tuple(texts)
    pieces = [piece for text in texts for piece in pieces_of(text)]
    is_plain = not any(isinstance(piece, Place) for piece in pieces)
    return "".join(texts) if is_plain else OpaqueText(*pieces)


def trim_left(pieces: Pieces) -> Pieces:
    """As no content is blank, trimming ends at the first of them at the latest."""
    first, *rest = pieces
    if isinstance(first, Place):
        return (first._replace(left=True), *rest)
    text = first.lstrip()
    return (text, *rest) if text else trim_left(tuple(rest))


def trim_right(pieces: Pieces) -> Pieces:
    *rest, last = pieces
    if isinstance(last, Place):
        return (*rest, last._replace(right=True))
    text = last.rstrip()
    return (*rest, text) if text else trim_right(tuple(rest))
