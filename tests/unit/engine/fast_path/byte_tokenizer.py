"""A tokenizer of bytes, and of a few words: any bytes can come out of it, in any pieces."""

from functools import cache

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

WORDS = (" the", " stop", "data: ", '{"error"', "\n\n", "日本", "😀", "é")


def byte_letters() -> list[str]:
    """How byte-level tokenizers write each byte, from 0 to 255 (GPT-2's table)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = (byte for byte in range(256) if byte not in printable)
    letters = {byte: chr(byte) for byte in printable}
    letters |= {byte: chr(256 + place) for place, byte in enumerate(others)}
    return [letters[byte] for byte in range(256)]


@cache
def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Token n is the byte n, below 256; then come the words."""
    letters = byte_letters()
    words = ["".join(letters[byte] for byte in word.encode()) for word in WORDS]
    vocabulary = {piece: number for number, piece in enumerate([*letters, *words])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def tokens_of(text: str) -> list[int]:
    return list(text.encode("utf-8", "surrogatepass"))
