"""Ctrl-C, SIGTERM and a lost terminal as requests that a run answers at its next step.

Imports nothing of weight: a launcher installs it before it imports what takes seconds.
"""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType

# Windows has neither of the last two. SIGUSR2 is a scheduler's word that time is nearly over.
SIGNALS = tuple(
    signal.Signals[name]
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR2")
    if name in signal.Signals.__members__
)
_ORDERS = (signal.SIGINT, signal.SIGTERM)
NOTICE = b"\nStopping after this step and saving; once more stops at once, unsaved.\n"


class StopSignals:
    """The first signal is a request, the second SIGINT or SIGTERM an order.

    A lost terminal is only ever a request: it is told of by the shell and by the system. Under
    `nohup` it is none. So is a scheduler's word, which its SIGTERM follows while the run is saving.
    """

    def __init__(self) -> None:
        self._received: signal.Signals | None = None
        self._asked = False

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
        if number in _ORDERS:
            if self._asked:
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)
            self._asked = True
        if self._received is not None:
            return
        self._received = signal.Signals(number)
        # Not print, nor the progress bar: whoever was interrupted may hold their locks.
        with contextlib.suppress(OSError):  # The terminal may be gone.
            os.write(2, NOTICE)
