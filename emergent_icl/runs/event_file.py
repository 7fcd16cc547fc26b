"""TensorBoard's event files, written by whoever logs: what goes wrong is told to them.

tensorboardX's own `SummaryWriter` writes in a thread. On a full disk that thread dies, and the run
would wait for it forever.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

# A killed run loses no more than this of its events, and none of its metrics file.
FLUSH_SECONDS = 30.0


class EventFile:
    """Numbers by step, of one run."""

    def __init__(self, folder: Path, first_step: int) -> None:
        """Starts a file.

        Args:
          folder: made if it is not there.
          first_step: TensorBoard drops events of this step and later ones in older files.

        Raises:
          OSError: it cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._file = EventsWriter(str(folder / "events"))
        self._write(Event(step=first_step, session_log=SessionLog(status=SessionLog.START)))
        self._flush()

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Adds the numbers of a step.

        Raises:
          OSError: they cannot be written.
        """
        values = [Summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
        self._write(Event(step=step, summary=Summary(value=values)))
        if time.monotonic() >= self._next_flush:
            self._flush()

    def close(self) -> None:
        """Writes what is left.

        Raises:
          OSError: it cannot be written.
        """
        self._file.close()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._file.write_event(event)

    def _flush(self) -> None:
        self._file.flush()
        self._next_flush = time.monotonic() + FLUSH_SECONDS
