"""Importing vLLM and torch warns of their own ways, which would be errors in our tests."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import vllm.entrypoints.openai.chat_completion.serving  # noqa: F401
