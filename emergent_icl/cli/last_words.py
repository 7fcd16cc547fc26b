"""What a process would say if it could: it is killed, or the runtime aborts it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

# Reads until the other end of the pipe is closed: after a goodbye, or by the end of the process.
# A scheduler may send signals to every process of a job.
_HEIR = """
import signal, sys
for name in ("SIGINT", "SIGTERM", "SIGHUP"):
    if hasattr(signal, name):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
sys.stdin.buffer.read() or sys.stderr.write(sys.argv[1])
"""


@contextlib.contextmanager
def last_words(text: str) -> Iterator[None]:
    """A process that ends inside, without an exception, leaves a text on the standard error stream.

    Another one holds it, which signals from the terminal do not reach.
    """
    theirs, ours = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-S", "-E", "-c", _HEIR, f"{text}\n"],
        stdin=theirs,
        start_new_session=True,
    ):
        os.close(theirs)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Somebody killed it.
                os.write(ours, b".")
            os.close(ours)
