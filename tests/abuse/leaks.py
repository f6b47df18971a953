"""What an error must never say: where it arose, in whose code, on what machine."""

import re

_LEAK = re.compile(
    r'Traceback|File "|site-packages|\.py\b|, line \d+, in |<class |object at 0x|0x[0-9a-f]{8}'
    r"|\bvllm\.|\bVLLM\w*Error|EngineCore|AsyncLLM|pydantic|xgrammar|starlette|fastapi"
    r"|std::|Check failed|\.cc\b|instance of",
    re.IGNORECASE,
)


def leak_in(text: str) -> str:
    """The first such words in an error; empty where it has none."""
    found = _LEAK.search(text)
    return found[0] if found else ""
