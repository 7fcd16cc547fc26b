"""What a process would say if it could: it is killed, or the runtime aborts it."""

from __future__ import annotations

import os
import subprocess
import sys

# Reads until the other end of the pipe is closed: by a goodbye, or by the end of the process.
_HEIR = "import sys; sys.stdin.buffer.read() or sys.stderr.write(sys.argv[1])"


class LastWords:
    """A text that appears on the standard error stream unless it is withdrawn in time.

    A small process holds it. Signals of the terminal do not reach that.
    """

    def __init__(self, text: str) -> None:
        theirs, ours = os.pipe()
        subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", _HEIR, f"{text}\n"],
            stdin=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self._pipe: int | None = ours

    def withdraw(self) -> None:
        """The process ends as it should, or has spoken itself."""
        if self._pipe is not None:
            os.write(self._pipe, b".")
            os.close(self._pipe)
            self._pipe = None
