"""The clocks of a run: wall time over all its commands, and time spent in updates."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from emergent_icl.runs.checkpoints import Progress


class Clock:
    """Counts updates and the time that they took, without compilation and pauses."""

    def __init__(self, carried: Progress, started: float) -> None:
        """Goes on from the clocks that a checkpoint carried over.

        Args:
          carried: from the checkpoint.
          started: `time.monotonic()` at which this command started.
        """
        self._carried, self._started = carried, started
        self._seconds, self._steps = 0.0, 0
        self._lap_seconds, self._lap_steps = 0.0, 0
        self._since: float | None = None

    def advance(self, steps: int) -> None:
        """Counts updates; the first ones, which compile, only start the clock."""
        now = time.monotonic()
        if self._since is not None:
            self._seconds += now - self._since
            self._steps += steps
        self._since = now

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Does not count the time inside."""
        before = time.monotonic()
        try:
            yield
        finally:
            if self._since is not None:
                self._since += time.monotonic() - before

    def lap(self) -> float | None:
        """Updates a second since the last lap; None if none was timed."""
        self.advance(0)
        seconds, steps = self._seconds - self._lap_seconds, self._steps - self._lap_steps
        self._lap_seconds, self._lap_steps = self._seconds, self._steps
        return steps / seconds if steps and seconds > 0 else None

    def progress(self, window: list[dict[str, list[float]]], diverged: dict[str, int]) -> Progress:
        """What a checkpoint carries on; see Progress for the arguments."""
        return Progress(
            self._carried.wall_seconds + time.monotonic() - self._started,
            self._carried.train_seconds + self._seconds,
            self._carried.train_steps + self._steps,
            window,
            diverged,
        )
