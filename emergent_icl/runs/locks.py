"""Locks on files, held by processes: whichever way one ends, nothing is left of its locks."""

from __future__ import annotations

import errno
import time
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows has no such locks.
    fcntl = None

# What a file system without locks answers.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock on a file; False where that cannot be known."""
    if not path.exists():
        return False
    with path.open("rb") as file:
        return not try_lock(file, patience_seconds=0)


def try_lock(file: IO, patience_seconds: float = 1.0) -> bool:
    """Locks an open file until it is closed here, and in every process that inherits it.

    Tries for a while: whoever asks whether it is locked holds it for an instant. False if another
    process holds it; True also where there are no locks.
    """
    deadline = time.monotonic() + patience_seconds
    while fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        except OSError as error:
            if error.errno in NO_LOCKS:
                break
            raise
    return True
