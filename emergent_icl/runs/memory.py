"""Memory that the C library keeps although nothing uses it."""

import ctypes
import sys


def release() -> None:
    """Returns malloc's free memory to the operating system; only glibc on Linux needs it.

    Compilation, evaluations, and saves leave free pages in the heaps of several threads: a third
    of a small run's memory, and more with every evaluation. This takes about 10 ms.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # Other C libraries lack it.
        if trim is not None:
            trim(0)
