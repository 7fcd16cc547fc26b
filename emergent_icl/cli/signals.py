"""What Ctrl-C and other signals do to a run: it saves and stops after the step under way."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

# Requests that a run answers at its next step: Ctrl-C, SIGTERM, a lost terminal, and SIGUSR2, by
# which a scheduler says that time is nearly over. Windows lacks the last two.
SIGNALS = tuple(
    one for one in signal.Signals if one.name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR2")
)
_ORDERS = (signal.SIGINT, signal.SIGTERM)
NOTICE = b"\nStopping after this step and saving; once more stops at once, unsaved.\n"


class StopSignals:
    """The first signal is a request to stop; a second SIGINT or SIGTERM stops at once.

    SIGHUP is only ever a request, since shell and system both send it; under `nohup` it is ignored.
    SIGUSR2 is one, too: the scheduler's SIGTERM follows while the run is saving.
    """

    _received: signal.Signals | None = None
    _asked = False

    def install(self) -> None:
        """From now on signals are requests."""
        for number in SIGNALS:
            # SIGINT is ignored in what a shell starts in the background, but `kill -INT` is meant.
            if number.name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)

    def forget(self) -> None:
        """A signal that was received concerned a command that has ended."""
        self._received, self._asked = None, False

    def poll(self) -> signal.Signals | None:
        """The signal that was received, None if there was none."""
        return self._received

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number in _ORDERS and self._asked:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._asked |= number in _ORDERS
        if self._received is None:
            self._received = signal.Signals(number)
            # Not print nor the progress bar: the interrupted code may hold their locks.
            with contextlib.suppress(OSError):  # The terminal may be gone.
                os.write(2, NOTICE)


STOP_SIGNALS = StopSignals()


@contextlib.contextmanager
def unchanged_signals() -> Iterator[None]:
    """Restores what signals do: a prompt or notebook outlives the command."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        STOP_SIGNALS.forget()
        for number, handler in before.items():
            signal.signal(number, handler)
