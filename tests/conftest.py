"""What every suite has in common: tests that mean the same in every run, on a busy machine too."""

import gc

from hypothesis import settings

# The same examples in every run: what passes once passes again. `--hypothesis-profile=search` looks
# for others. An example may take as long as the machine makes it: what has to be quick says so.
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None)
settings.load_profile("same")


def pytest_collection_finish() -> None:
    """What was imported for the tests, vLLM and torch, stays: looking through it for garbage stops
    everything for a second, in the middle of a test of timers."""
    gc.collect()
    gc.freeze()
