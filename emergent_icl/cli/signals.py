"""Ctrl-C and other signals: a run saves and stops after the current step."""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

# Ctrl-C, termination, a lost terminal, and a scheduler's warning. Windows lacks the last two.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR2")
SIGNALS = tuple(one for one in signal.Signals if one.name in _NAMES)
_ORDERS = (signal.SIGINT, signal.SIGTERM)
NOTICE = b"\nStopping and saving after this step. A second signal stops at once, without saving.\n"


class StopSignals:
    """The first signal requests a stop; a second SIGINT or SIGTERM stops at once.

    SIGHUP, which shell and system both send, and SIGUSR2, which SIGTERM follows, only request.
    """

    _received: signal.Signals | None = None
    _asked = False

    def install(self) -> None:
        """Turns signals into requests; `nohup` still ignores SIGHUP."""
        for number in SIGNALS:
            # Background processes of a shell ignore SIGINT, but `kill -INT` is intended.
            if number.name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)

    def forget(self) -> None:
        """Forgets a signal to an earlier command of this process."""
        self._received, self._asked = None, False

    def poll(self) -> signal.Signals | None:
        """The signal received, or None."""
        return self._received

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number in _ORDERS and self._asked:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._asked |= number in _ORDERS
        if self._received is None:
            self._received = signal.Signals(number)
            # Interrupted code may hold the locks of print and the progress bar.
            with contextlib.suppress(OSError):  # The terminal may be gone.
                os.write(2, NOTICE)


STOP_SIGNALS = StopSignals()


@contextlib.contextmanager
def unchanged_signals() -> Iterator[None]:
    """Restores signal handlers, since a prompt or notebook outlives the command."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
