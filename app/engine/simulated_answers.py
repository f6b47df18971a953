"""Which tokens the simulated device answers with: those of a text, the same for the same prompt."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

from app.engine.token_mask import first_allowed

TEXT = """\
The lighthouse keeper wrote the weather down four times a day. At six in the morning the wind came
from the north-west, force 5, and the sea was grey; at noon it had turned, and two fishing boats
passed on their way home. "You will have rain by evening," said the older of the two skippers, who
was never wrong about it. So the keeper brought in the washing, oiled the lamp, and counted what
was left in the store: 14 candles, 3 tins of coffee, half a sack of flour. Nothing was missing. In
the afternoon he read the letters that had come with the boat, some of them for the second time,
and answered one. He put down what he had seen and left out what he had thought, because the paper
was small and the boat would not wait. Then the first drops fell on the gallery, and he went up
to light the lamp a quarter of an hour early; it was his habit, and no ship had ever complained.
"""


@dataclass
class Answer:
    """One request's answer. `offset` is where in the text it begins; `length` None: endless."""

    num_prompt_tokens: int
    offset: int
    length: int | None
    num_tokens: int = 0


class SimulatedAnswers:
    """`text_tokens` is not empty. `closing_tokens` are tried in their order where a grammar forbids
    the text's token, so that a structured answer is the shortest that its grammar allows.
    """

    def __init__(
        self, text_tokens: Sequence[int], end_token: int | None, closing_tokens: Sequence[int]
    ) -> None:
        self._text = text_tokens
        self._end = end_token
        self._closing = closing_tokens
        self._answers: dict[str, Answer] = {}

    def begin(
        self, request_id: str, prompt: Sequence[int], seed: int | None, length: int | None
    ) -> None:
        """A request that is begun again, as after a preemption, goes on where it was."""
        if request_id in self._answers:
            return
        offset = crc32(f"{seed} {list(prompt)}".encode()) % len(self._text)
        self._answers[request_id] = Answer(len(prompt), offset, length)

    def forget(self, request_ids: Iterable[str]) -> None:
        for request_id in request_ids:
            self._answers.pop(request_id, None)

    def next_tokens(
        self, num_computed: Mapping[str, int], allowed: Mapping[str, Sequence[int]]
    ) -> list[list[int]]:
        """One token for each request whose `num_computed` covers all it has; none for one that is
        still in its prompt. `allowed` holds a bit mask over the vocabulary, 32 bits per word.
        """
        return [
            self.next_token(self._answers[request_id], num, allowed.get(request_id))
            for request_id, num in num_computed.items()
        ]

    def next_token(
        self, answer: Answer, num_computed: int, allowed: Sequence[int] | None
    ) -> list[int]:
        if num_computed < answer.num_prompt_tokens + answer.num_tokens:
            return []
        token = self._text[(answer.offset + answer.num_tokens) % len(self._text)]
        if self._end is not None and answer.num_tokens == answer.length:
            token = self._end
        if allowed is not None:
            token = self.allowed_token(token, allowed)
        answer.num_tokens += 1
        return [token]

    def allowed_token(self, wanted: int, allowed: Sequence[int]) -> int:
        """A closing token before the wanted one: a free text would never end a string."""
        ends: tuple[int, ...] = () if self._end is None else (self._end,)
        for token in (*ends, *self._closing, wanted):
            if allowed[token >> 5] >> (token & 31) & 1:
                return token
        # Where there is none, token 0, which a sampler takes whose logits are all -inf: the grammar
        # rejects it, and vLLM ends that request and no other.
        return first_allowed(allowed) or 0
