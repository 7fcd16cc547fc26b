"""Memory: the most that a process used, and what malloc keeps although nothing uses it."""

import ctypes
import re
import sys
from pathlib import Path


def peak_bytes(pid: int) -> int:
    """The greatest resident memory so far of a running process on Linux; 0 if it is unknown.

    Its `ru_maxrss` is no less than that of the process that started it, even after exec.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


def release() -> None:
    """Returns malloc's free memory to the operating system; only glibc on Linux needs it.

    Compilation, evaluations, and saves leave free pages in the heaps of several threads: a third
    of a small run's memory, and more with every evaluation. This takes about 10 ms.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # Other C libraries lack it.
        if trim is not None:
            trim(0)
