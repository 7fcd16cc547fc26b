"""Memory in huge pages: on CPU, half of a paper-size step went into small ones.

XLA asks the C library for its temporary buffers anew at every step (a gigabyte in the paper's
setting), and Linux hands them out in pages of 4 KiB, a page fault each. glibc 2.35 asks for
pages of 2 MiB if it was told to when the process began, so the launchers begin again.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

TUNABLE = "glibc.malloc.hugetlb"
FIRST_GLIBC = (2, 35)
_MODE = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def restart() -> None:
    """Replaces this process by the same one with huge pages, where that changes anything.

    To be called before the heavy imports. GLIBC_TUNABLES=glibc.malloc.hugetlb=0 keeps it as
    it is.
    """
    mode = _MODE.read_text(encoding="utf-8") if _MODE.exists() else ""
    tunables = wanted(mode, platform.libc_ver(), os.environ)
    if tunables is not None:
        environment = {**os.environ, "GLIBC_TUNABLES": tunables}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def wanted(mode: str, libc: tuple[str, str], environment: Mapping[str, str]) -> str | None:
    """GLIBC_TUNABLES of a process with huge pages; None where there is nothing to gain.

    Args:
      mode: what Linux does: 'always madvise [never]', the chosen one in brackets; '' where
        there are no huge pages. Only 'madvise' waits to be asked.
      libc: name and version of the C library.
      environment: of this process.
    """
    name, version = libc
    present = environment.get("GLIBC_TUNABLES", "")
    if "[madvise]" not in mode or name != "glibc" or TUNABLE in present:
        return None
    if tuple(int(part) for part in version.split(".")[:2]) < FIRST_GLIBC:
        return None
    return f"{present}:{TUNABLE}=1".lstrip(":")
