"""File locks, released when the process that holds them ends for any reason."""

import errno
import time
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows has no such locks.
    fcntl = None

# Errors of file systems without locks.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock on a file; False if unknown."""
    if not path.exists():
        return False
    with path.open("rb") as file:
        return not try_lock(file, patience_seconds=0)


def try_lock(file: IO, patience_seconds: float = 1.0) -> bool:
    """Locks an open file until it is closed here and in every process that inherits it.

    Retries for a while, because `is_locked` holds the lock for an instant. Returns False if another
    process holds it; True also on file systems without locks.
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
