"""How vLLM words a chunk of which nothing but the text varies."""

from dataclasses import dataclass

from pydantic_core import to_json as encode


@dataclass(frozen=True)
class Wording:
    """What stands right before the text in such a chunk, and what follows it to the end. Whether
    there is a chunk without text too: a token may be half a character."""

    before: bytes
    after: bytes
    has_empty_chunks: bool = True


CHAT = Wording(
    b'"delta":{"content":', b'},"logprobs":null,"finish_reason":null,"token_ids":null}]}\n\n'
)
COMPLETION = Wording(
    b'"text":',
    b',"logprobs":null,"finish_reason":null,"stop_reason":null,"prompt_token_ids":null,'
    b'"token_ids":null}]}\n\n',
)


@dataclass(frozen=True)
class Pattern:
    """The chunks of one stream: all but the text is the same in each."""

    before: bytes
    after: bytes
    has_empty_chunks: bool

    def chunk(self, text: str) -> bytes:
        """Empty where vLLM would word none."""
        if not text and not self.has_empty_chunks:
            return b""
        return self.before + encode(text) + self.after


def learn(wording: Wording, chunk: bytes, text: str) -> Pattern | None:
    """The pattern of `chunk`, which vLLM has worded for `text`. None where it is not worded so, or
    where the text, being empty, might be found in the wrong place."""
    if not text:
        return None
    before, found, after = chunk.partition(wording.before + encode(text))
    if not found or after != wording.after:
        return None
    return Pattern(before + wording.before, after, wording.has_empty_chunks)
