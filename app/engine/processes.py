"""The engine's processes, seen from outside: end them, and let them not outlive the gateway.

An engine that outlived its gateway would keep the GPU's memory, and the next start would not fit.
"""

import contextlib
import gc
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil

from app.engine.crashes import end_at_once_on_crash

LOOK_EVERY_S = 1.0


def kill_children() -> None:
    """SIGKILL what multiprocessing started here, and everything below that, in one sweep.

    Its own resource tracker stays and cleans up what the killed leave in shared memory.
    """
    doomed: list[psutil.Process] = []
    for child in multiprocessing.active_children():
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(child.pid)
            doomed += [*process.children(recursive=True), process]
    for process in doomed:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def run_engine_core(*args: Any, **options: Any) -> None:
    """vLLM's engine process, which ends when the gateway does, however that ended.

    vLLM's workers watch their engine, but its engine watches nobody: after `kill -9` of the
    gateway it would wait for requests for ever. The kernel's own signal on a parent's death will
    not do: it comes when the thread that started the engine ends.
    """
    from vllm.v1.engine.core import EngineCoreProc

    gc.enable()
    end_at_once_on_crash()
    watch = threading.Thread(
        target=end_with, args=(os.getppid(),), name="parent-watch", daemon=True
    )
    watch.start()
    EngineCoreProc.run_engine_core(*args, **options)


class EngineMain:
    """`run_engine_core`, which in its new process looks for no garbage until vLLM is imported: that
    makes a million objects which stay, and looking through them costs 1.5 s.

    A process unpickles what it runs before the arguments, which bring vLLM along.
    """

    def __reduce__(self) -> tuple[Callable[[], Callable[..., None]], tuple[()]]:
        return begin_uncollected, ()

    def __call__(self, *args: Any, **options: Any) -> None:
        run_engine_core(*args, **options)


def begin_uncollected() -> Callable[..., None]:
    gc.disable()
    return run_engine_core


def end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY_S)
    os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def watched_engine_processes() -> Iterator[None]:
    """Engines that are started meanwhile run `EngineMain`."""
    from vllm.v1.engine.core import EngineCoreProc

    original = EngineCoreProc.__dict__["run_engine_core"]
    EngineCoreProc.run_engine_core = EngineMain()
    try:
        yield
    finally:
        EngineCoreProc.run_engine_core = original
