"""What a run tells: metrics files for programs, an observer for people."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from emergent_icl.runs.event_file import EventFile
from emergent_icl.runs.workdir import WorkdirError

Record = dict[str, Any]
# Bytes; a line of eight evaluation modes has 3,000.
_LONGEST_LINE = 2**16


class Observer:
    """Told of everything that happens in a run; this one ignores it.

    The library prints nothing: launchers pass an observer that does.
    """

    def started(self, facts: dict[str, Any]) -> None:
        """Before compilation; `facts` are names and values to show."""

    def set_aside(self, step: int, why: str, place: Path) -> None:
        """After a checkpoint that cannot be read was moved to another place."""

    def advanced(self, step: int) -> None:
        """After the call that ended with this step was dispatched."""

    def logged(self, step: int, records: dict[str, Record]) -> None:
        """After lines of metrics were written, by the replica's name ('' for a run alone)."""

    def diverged(self, name: str, step: int) -> None:
        """After a replica was found to hold a loss that is not finite; the others go on."""

    def close(self) -> None:
        """After everything else."""


class MetricsWriter:
    """metrics.jsonl and TensorBoard events; continues exactly where a checkpoint ends."""

    def __init__(self, metrics: Path, tensorboard: Path, resume_step: int) -> None:
        """Opens both, without what a killed run wrote beyond its checkpoint.

        Args:
          metrics: the .jsonl file.
          tensorboard: folder of the event files.
          resume_step: lines of later steps are dropped, and so is half a line.
        """
        kept = [record for record in read_metrics(metrics) if record["step"] <= resume_step]
        temporary = metrics.with_name(metrics.name + ".tmp")
        with temporary.open("w", encoding="utf-8") as file:
            file.writelines(_line(record) for record in kept)
        os.replace(temporary, metrics)
        self._file, self._path = metrics.open("a", encoding="utf-8"), metrics
        self._tensorboard, self._resume_step = tensorboard, resume_step
        self._events: dict[str, EventFile] = {}

    def __enter__(self) -> MetricsWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *others: object) -> None:
        # What went wrong first is what is told; here it would go wrong again.
        first = kind is None
        with _named(self._path) if first else contextlib.suppress(OSError):
            self._file.close()
        for events in self._events.values():
            with _named(self._tensorboard) if first else contextlib.suppress(OSError):
                events.close()

    def write(self, step: int, records: dict[str, Record]) -> None:
        """Adds a line for each replica, and one event for each number in it.

        Args:
          step: of all of them.
          records: by the replica's name, which stands in the line and is a run of its own
            in TensorBoard; '' for a run that is alone.

        Raises:
          OSError: they cannot be written, or the file was deleted.
        """
        if not os.fstat(self._file.fileno()).st_nlink:
            raise FileNotFoundError(
                errno.ENOENT, "Deleted while the run wrote to it", str(self._path)
            )
        with _named(self._path):
            for replica, record in records.items():
                who = {"replica": replica} if replica else {}
                self._file.write(_line({"step": step, **who, **record}))
            self._file.flush()
        with _named(self._tensorboard):
            for replica, record in records.items():
                if replica not in self._events:
                    folder = self._tensorboard / replica
                    self._events[replica] = EventFile(folder, self._resume_step + 1)
                self._events[replica].write(step, record)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """A full disk does not say where."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, error.filename or str(path)) from error


class SilentWriter:
    """In place of a MetricsWriter, for a process whose numbers another one writes."""

    def __enter__(self) -> SilentWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def write(self, step: int, records: dict[str, Record]) -> None:
        """Writes nothing."""


def read_metrics(path: Path) -> list[Record]:
    """Reads metrics.jsonl, [] if there is none; the last line may be half a line.

    Raises:
      WorkdirError: another one is not a line of metrics.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    records = [_record(line) for line in lines[:-1]]
    for number, record in enumerate(records[:-1], start=1):
        if record is None:
            raise WorkdirError(f"line {number} of {path} is not a line of metrics")
    return [record for record in records if record is not None]


def _record(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and "step" in record else None


def last_step(path: Path) -> int:
    """Step of the last whole line of metrics.jsonl, 0 if there is none; reads the end alone."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - _LONGEST_LINE, 0))
        *whole, _ = file.read().split(b"\n")
    # The very last may be none: see `read_metrics`.
    records = (record for line in reversed(whole) if (record := _record(line)) is not None)
    return next(records, {"step": 0})["step"]


def _line(record: Record) -> str:
    return json.dumps(record, allow_nan=False) + "\n"
