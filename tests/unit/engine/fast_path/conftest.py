"""Importing vLLM and torch warns of their own ways, which would be errors in our tests."""

import warnings
from collections.abc import Iterator

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import vllm.entrypoints.openai.chat_completion.serving  # noqa: F401

    from tests.unit.engine.fast_path.test_plain_chats import Bench


@pytest.fixture(scope="session")
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.ours.shutdown()
    bench.theirs.shutdown()
