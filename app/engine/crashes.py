"""How a process of ours ends by a segmentation fault: at once, and with Python's own stack.

The library under the grammar compiler (`tvm_ffi`) sets a handler that looks up a trace of all C++
frames first: a second, or half a minute where the libraries' symbols are not in memory yet.
Meanwhile nobody learns of the crash, and an engine that is dead is taken for one that hangs.
"""

import contextlib
import faulthandler
import signal
import sys


def end_at_once_on_crash() -> None:
    """Main thread only. Python writes where each thread was to standard error, in milliseconds."""
    with contextlib.suppress(ImportError):
        import tvm_ffi  # noqa: F401 (sets its handler when it is loaded; it must not come later)
    faulthandler.disable()
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    if sys.__stderr__ is not None:
        faulthandler.enable(sys.__stderr__)
