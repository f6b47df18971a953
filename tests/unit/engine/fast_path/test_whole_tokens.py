"""What goes wrong with the tokens of a whole answer goes wrong once, and for it alone."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from app.engine.fast_path.engine_inlet import LastOutput
from app.engine.fast_path.whole_tokens import WholeTokens


def test_tokens_that_cannot_be_decoded_are_not_decoded_again_at_the_end() -> None:
    def fail(_: int) -> str:
        raise OverflowError

    detokenizer = SimpleNamespace(token_ids=[], output_text="", decode_next=fail)
    state: Any = SimpleNamespace(detokenizer=detokenizer, is_prefilling=False, stats=None)
    tokens = WholeTokens(state)
    tokens.begin()
    with pytest.raises(OverflowError):
        tokens.take([1] * 64)
    tokens.end()


def test_an_error_is_not_lost_behind_the_last_output() -> None:
    async def ask() -> None:
        queue = LastOutput()
        output: Any = object()
        queue.put(ZeroDivisionError())
        queue.put(output)
        await queue.get()

    with pytest.raises(ZeroDivisionError):
        asyncio.run(ask())
