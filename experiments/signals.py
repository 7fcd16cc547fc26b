"""Ctrl-C, SIGTERM and a lost terminal as requests that a run answers at its next step.

Imports nothing of weight: a launcher installs it before it imports what takes seconds.
"""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType

# Windows has no SIGHUP.
SIGNALS = tuple(
    signal.Signals[name]
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if name in signal.Signals.__members__
)
NOTICE = b"\nStopping after this step and saving; once more stops at once, unsaved.\n"


class StopSignals:
    """The first signal is a request, the second one an order.

    A lost terminal is only ever a request: it is told of by the shell and by the system. Under
    `nohup` it is none.
    """

    def __init__(self) -> None:
        self._received: signal.Signals | None = None

    def install(self) -> None:
        """From now on signals are requests."""
        for number in SIGNALS:
            # A shell ignores SIGINT for what it starts in the background; `kill -INT` is meant.
            is_nohup = number.name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN
            if not is_nohup:
                signal.signal(number, self._handle)

    def poll(self) -> signal.Signals | None:
        """The signal that was received, None if there was none."""
        return self._received

    def _handle(self, number: int, frame: FrameType | None) -> None:
        is_repeated = self._received is not None
        if is_repeated and signal.Signals(number).name == "SIGHUP":
            return
        if is_repeated:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._received = signal.Signals(number)
        # Not print, nor the progress bar: whoever was interrupted may hold their locks.
        with contextlib.suppress(OSError):  # The terminal may be gone.
            os.write(2, NOTICE)
