"""Ctrl-C and SIGTERM as requests that a run answers at its next step."""

from __future__ import annotations

import signal
from types import FrameType

from experiments import console


class StopSignals:
    """Context in which the first signal is a request, and the second one is an order."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self._received: signal.Signals | None = None

    def __enter__(self) -> StopSignals:
        self._previous = {number: signal.signal(number, self._handle) for number in self.SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def poll(self) -> signal.Signals | None:
        """The signal that was received, None if there was none."""
        return self._received

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._received is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._received = signal.Signals(number)
        console.say("Stopping after this step and saving; once more stops at once, unsaved.")
