"""What a template makes of all chats whose messages have the same roles, learned from one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from app.engine.fast_path.opaque_template import opaque_template
from app.engine.fast_path.opaque_text import (
    LookedAt,
    OpaqueMessage,
    OpaqueText,
    Pieces,
    Place,
    pieces_of,
)

MAX_LEARNED = 64
# A client cannot take the room of these by asking for others first: turns of a user and an
# assistant that end with the user's, with and without a system message.
_TURNS = ("user", *("assistant", "user") * 7)
USUAL = [
    (*system, *_TURNS[:num_turns])
    for num_turns in range(1, len(_TURNS) + 1, 2)
    for system in ((), ("system",))
]
# What is learned has to hold for these, in each place.
_SAMPLES = (" \n a b\t\n", "<|eot_id|>", "{{ x }}{% raw %}", "é 漢字 😀\u2028", "1", "%s %(a)s\\")


@dataclass(frozen=True, slots=True)
class LearnedPrompt:
    """`texts` of the prompt, and `places` among them: which text, of which message, how trimmed."""

    texts: list[str]
    places: list[tuple[int, int, Callable[[str], str]]]

    def of(self, contents: Sequence[str]) -> str:
        texts = self.texts.copy()
        for position, index, trim in self.places:
            texts[position] = trim(contents[index])
        return "".join(texts)


class LearnedPrompts:
    """Of one template; `render` is its own way, which is asked while learning."""

    def __init__(
        self,
        render: Callable[[list[dict[str, str]]], str | None],
        environment: Any,
        source: str,
        given: dict[str, Any],
    ) -> None:
        self._render, self._given = render, given
        self._known: dict[tuple[str, ...], LearnedPrompt | None] = {}
        try:
            self._template = opaque_template(environment, source)
        except (LookedAt, Exception):  # noqa: BLE001 (whatever it is, nothing is learned)
            self._template = None

    def render(self, messages: Sequence[Any]) -> str | None:
        """The prompt of plain messages; None where the template has to be asked."""
        contents = [message["content"] for message in messages]
        if any(map(str.isspace, contents)):
            return None
        prompt = self.known(tuple([message["role"] for message in messages]))
        return None if prompt is None else prompt.of(contents)

    def learn_usual(self) -> None:
        for roles in USUAL:
            self.known(roles)

    def known(self, roles: tuple[str, ...]) -> LearnedPrompt | None:
        """None where there is none: what the template does depends on the contents, or it has
        refused these roles, or enough is known already."""
        if roles not in self._known and len(self._known) < MAX_LEARNED:
            try:
                self._known[roles] = self._learn(roles)
            except (LookedAt, Exception):  # noqa: BLE001 (the template says what it is)
                self._known[roles] = None
        return self._known.get(roles)

    def _learn(self, roles: tuple[str, ...]) -> LearnedPrompt | None:
        if self._template is None:
            return None
        messages = [
            OpaqueMessage(role=role, content=OpaqueText(Place(index)))
            for index, role in enumerate(roles)
        ]
        prompt = learned(pieces_of(self._template.render(messages=messages, **self._given)))
        return prompt if self._holds(prompt, roles) else None

    def _holds(self, prompt: LearnedPrompt, roles: tuple[str, ...]) -> bool:
        """Nothing should ever differ here. Where it does, the template is right."""
        for shift in range(len(_SAMPLES)):
            contents = [_SAMPLES[(index + shift) % len(_SAMPLES)] for index in range(len(roles))]
            messages = [
                {"role": role, "content": content}
                for role, content in zip(roles, contents, strict=True)
            ]
            if prompt.of(contents) != self._render(messages):
                return False
        return True


def learned(pieces: Pieces) -> LearnedPrompt:
    texts: list[str] = [""]
    places = []
    for piece in pieces:
        if isinstance(piece, Place):
            places.append((len(texts), piece.message, piece.trim))
            texts += ["", ""]
        else:
            texts[-1] += piece
    return LearnedPrompt(texts, places)
